"""Send the journal's entries to MLflow: the only module that uses its tracking API."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, assert_never, cast

from ...runtimes import served_model
from ...runtimes.predict import LoadOptions
from ...runtimes.served_model import FILES, ModelDescription
from . import names
from .entries import (
    DatasetEntry,
    FinishEntry,
    FolderEntry,
    HeaderEntry,
    JournalEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    RunEntry,
    RunStatus,
    TagsEntry,
    TextEntry,
    model_key,
)
from .runtime_wheel import build_wheel


def is_away(error: BaseException) -> bool:
    """Whether an error means that the server can't be reached, rather than that it refuses."""
    import requests
    from mlflow.exceptions import MlflowException

    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, requests.RequestException | ConnectionError | TimeoutError):
            return True
        if isinstance(link, MlflowException):
            code = link.get_http_status_code()
            text = str(link)
            if code >= 500 and link.error_code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"):
                return True
            if "API request to" in text and "failed with exception" in text:
                return True
        if "database is locked" in str(link):
            return True
    return False


class MlflowSender:
    """A client for one experiment. Used from one thread at a time."""

    def __init__(self, uri: str, artifacts: str | None, experiment: str) -> None:
        self._uri = uri
        self._artifacts = artifacts
        self._experiment = experiment
        self._client: Any = None
        self._experiment_id = ""
        self._parent = ""

    def connect(self) -> None:
        """Connect to the server, and find or create the experiment."""
        import mlflow
        from mlflow.exceptions import MlflowException

        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(self._uri)
        self._client = mlflow.MlflowClient(self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None and found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        if found is None:
            place = None
            if self._artifacts is not None:
                place = f"{self._artifacts.rstrip('/')}/{self._experiment}"
            try:
                self._experiment_id = self._client.create_experiment(
                    self._experiment, artifact_location=place
                )
            except MlflowException:  # another run was first
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        if found is not None:
            self._experiment_id = found.experiment_id

    def create_run(self, parent: str | None, name: str, tags: dict[str, str]) -> str:
        """Start a run; the first one without a parent is the parent of all others."""
        if parent is not None:
            tags = {**tags, names.MLFLOW_PARENT: parent}
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=name)
        return str(run.info.run_id)

    def tag(self, run_id: str, name: str, value: str) -> None:
        self._client.set_tag(run_id, name, value)

    def run_is_over(self, run_id: str) -> bool:
        return RunStatus(self._client.get_run(run_id).info.status).is_over

    def end_if_running(self, run_id: str, status: RunStatus) -> None:
        if not self.run_is_over(run_id):
            self._client.set_terminated(run_id, status=status.value)

    def close_dead_runs(self, is_dead: Callable[[dict[str, str]], bool], keep: str) -> None:
        """End Hone's runs that are RUNNING although their process is gone."""
        experiments = [e.experiment_id for e in self._client.search_experiments(max_results=500)]
        for run in self._client.search_runs(
            experiments,
            filter_string=f"attributes.status = '{RunStatus.RUNNING}'",
            max_results=1000,
        ):
            tags = dict(run.data.tags)
            if run.info.run_id != keep and is_dead(tags):
                self._client.set_tag(run.info.run_id, names.ENDED, "its process was gone")
                self._client.set_terminated(run.info.run_id, status=RunStatus.KILLED.value)

    def send(self, entries: Sequence[JournalEntry], ids: dict[str, str]) -> None:
        """Carry out an entry, or metrics of one run; new ids of runs and models go into `ids`."""
        first = entries[0]
        match first:
            case HeaderEntry():
                pass
            case MetricEntry():
                metrics = [entry for entry in entries if isinstance(entry, MetricEntry)]
                self._send_metrics(ids[first.ref], metrics, ids)
            case RunEntry():
                if first.ref not in ids:
                    parent = ids[names.PARENT]
                    ids[first.ref] = self.create_run(parent, first.name, first.tags)
            case ParamsEntry():
                self._send_params(ids[first.ref], first)
            case TagsEntry():
                self._send_tags(ids[first.ref], first)
            case TextEntry():
                self._client.log_text(ids[first.ref], first.content, first.file)
            case FolderEntry():
                self._client.log_artifacts(ids[first.ref], first.folder, first.path)
            case DatasetEntry():
                self._send_dataset(ids[first.ref], first)
            case ModelEntry():
                self._send_model(first, ids)
            case FinishEntry():
                self._client.set_terminated(
                    ids[first.ref], status=first.status.value, end_time=first.time_ms
                )
            case _:
                assert_never(first)

    def _send_metrics(
        self, run_id: str, entries: Sequence[MetricEntry], ids: dict[str, str]
    ) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(
                entry.name,
                entry.value,
                entry.time_ms,
                entry.step,
                model_id=ids.get(model_key(entry.model)) if entry.model else None,
            )
            for entry in entries
        ]
        self._client.log_batch(run_id, metrics=metrics)

    def _send_params(self, run_id: str, entry: ParamsEntry) -> None:
        from mlflow.entities import Param

        params = [Param(name, value[:5900]) for name, value in entry.values.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[start : start + 100])

    def _send_tags(self, run_id: str, entry: TagsEntry) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value[:7900]) for name, value in entry.values.items()]
        self._client.log_batch(run_id, tags=tags)

    def _send_dataset(self, run_id: str, entry: DatasetEntry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=entry.name,
            digest=entry.digest,
            source_type="code",
            source=json.dumps(entry.source),
            profile=json.dumps(entry.profile),
        )
        for context in entry.contexts:
            used = DatasetInput(dataset, [InputTag(names.MLFLOW_CONTEXT, context)])
            self._client.log_inputs(run_id, datasets=[used])

    def _send_model(self, entry: ModelEntry, ids: dict[str, str]) -> None:
        """Log a candidate as a LoggedModel, in the pyfunc flavor with our loader."""
        import mlflow
        import numpy as np
        from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec
        from safetensors.numpy import load_file

        if model_key(entry.ref) in ids:
            return
        if (held := self._held_model(entry)) is not None:
            self._client.log_inputs(ids[entry.ref], models=[LoggedModelInput(held)])
            ids[model_key(entry.ref)] = held
            return
        inputs, output = entry.inputs, entry.output
        single = list(inputs) == ["input"]
        signature = ModelSignature(
            inputs=Schema([
                TensorSpec(np.dtype(spec.dtype), (-1, *spec.shape), None if single else name)
                for name, spec in inputs.items()
            ]),
            outputs=Schema([TensorSpec(np.dtype(output.dtype), (-1, *output.shape))]),
        )  # fmt: skip
        example = {name: value[:2] for name, value in load_file(entry.example).items()}
        run_id = ids[entry.ref]
        with tempfile.TemporaryDirectory(prefix="hone-model-") as scratch:
            folder = Path(scratch) / "data"
            shutil.copytree(entry.folder, folder / FILES)
            options = cast(LoadOptions, entry.options)
            ModelDescription(entry.sha256, tuple(entry.inputs), options).write(folder)
            model = self._client.create_logged_model(
                self._experiment_id,
                name=entry.name,
                source_run_id=run_id,
                tags=entry.tags,
                params={k: v[:490] for k, v in entry.params.items()},
                model_type=entry.target,
            )
            wheel = build_wheel(Path(scratch) / "wheel")
            # The high-level `log_model` would load the runtime into this process to try it out.
            mlflow.pyfunc.save_model(
                f"{scratch}/model",
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    run_id=run_id,
                    model_id=model.model_id,
                ),
                loader_module=served_model.__name__,
                data_path=str(folder),
                signature=signature,
                input_example=example["input"] if single else example,
                # The wheel is copied to code/, and required by its path in the model's folder:
                # https://mlflow.org/docs/latest/ml/model/dependencies/
                code_paths=[str(wheel)],
                pip_requirements=[f"code/{wheel.name}", *entry.requirements],
            )
            self._client.log_model_artifacts(model.model_id, f"{scratch}/model")
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=0)])
        ids[model_key(entry.ref)] = str(model.model_id)

    def _held_model(self, entry: ModelEntry) -> str | None:
        """The LoggedModel that already holds these bytes for this candidate."""
        from mlflow.entities import LoggedModelStatus

        found = self._client.search_logged_models(
            [self._experiment_id],
            filter_string=f"tags.`{names.SHA256}` = '{entry.tags[names.SHA256]}' "
            f"AND tags.`{names.CANDIDATE}` = '{entry.tags[names.CANDIDATE]}'",
            max_results=5,
        )
        ready = [model for model in found if model.status == LoggedModelStatus.READY]
        return str(ready[0].model_id) if ready else None
