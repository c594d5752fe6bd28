"""Send the journal's entries to MLflow: the only module that uses its tracking API."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, assert_never

from ...ray_workers.scratch import scratch_folder
from ...recipe.library_messages import telling
from ...runtimes.manifest import differences, manifest_digest
from . import names
from .away import is_away
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
    Values,
    model_key,
)
from .first_opening import alone, schema_problem
from .model_folder import write_model
from .registered_bytes import held_files

#: MLflow's limits for one request: 1,000 in all, and of params and of tags 100 each.
_METRICS, _OTHERS = 800, 100


class MlflowSender:
    """A client for one experiment. Used from one thread at a time.

    Attributes:
        files: sha256 of each file of the models that were logged, by candidate.
        doubts: What it met that the user should know, in sentences.
    """

    def __init__(self, uri: str, artifacts: str | None, experiment: str) -> None:
        self._uri = uri
        self._artifacts = artifacts
        self._experiment = experiment
        self._client: Any = None
        self._experiment_id = ""
        self.files: dict[str, dict[str, str]] = {}
        self.doubts: list[str] = []

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; empty before `connect`."""
        return self._experiment_id

    def connect(self) -> None:
        """Connect to the server, and find or create the experiment."""
        import mlflow
        from mlflow.exceptions import MlflowException

        mlflow.set_tracking_uri(self._uri)
        try:
            with alone(self._uri):
                self._client = mlflow.MlflowClient(self._uri)
                found = self._client.get_experiment_by_name(self._experiment)
        except MlflowException as error:
            raise schema_problem(error, self._uri) or error from error
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

    def close_dead_runs(self, is_dead: Callable[[str, dict[str, str]], bool], keep: str) -> None:
        """End Hone's runs that are RUNNING although their process is gone.

        Args:
            is_dead: Whether it is, by the run's id and tags.
            keep: A run to leave alone.
        """
        experiments = [e.experiment_id for e in self._client.search_experiments(max_results=500)]
        running = self._client.search_runs(
            experiments,
            filter_string=f"attributes.status = '{RunStatus.RUNNING}'",
            max_results=1000,
        )
        tags_of = {str(run.info.run_id): dict(run.data.tags) for run in running}
        for run in running:
            run_id = str(run.info.run_id)
            try:
                if run_id != keep and is_dead(run_id, _with_heartbeat(tags_of, run_id)):
                    self._client.set_tag(run_id, names.ENDED, "its process was gone")
                    self._client.set_terminated(run_id, status=RunStatus.KILLED.value)
            except Exception as error:
                if is_away(error):
                    raise
                self.doubts.append(f"run {run_id} can't be ended: {telling(error)[:200]}")

    def send(self, entries: Sequence[JournalEntry], ids: dict[str, str]) -> None:
        """Carry out an entry, or metrics, params and tags of any runs; new ids go into `ids`."""
        first = entries[0]
        match first:
            case HeaderEntry():
                pass
            case MetricEntry() | ParamsEntry() | TagsEntry():
                values = [entry for entry in entries if isinstance(entry, Values)]
                for ref in dict.fromkeys(entry.ref for entry in values):
                    self._send_values(ids[ref], [e for e in values if e.ref == ref], ids)
            case RunEntry():
                if first.ref not in ids:
                    parent = ids[names.PARENT]
                    ids[first.ref] = self.create_run(parent, first.name, first.tags)
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

    def _send_values(self, run_id: str, entries: Sequence[Values], ids: dict[str, str]) -> None:
        """Metrics, params and tags of one run, in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(
                entry.name,
                entry.value,
                entry.time_ms,
                entry.step,
                model_id=ids.get(model_key(entry.model)) if entry.model else None,
            )
            for entry in entries
            if isinstance(entry, MetricEntry)
        ]
        params = [
            Param(name, value[:5900])
            for entry in entries
            if isinstance(entry, ParamsEntry)
            for name, value in entry.values.items()
        ]
        last = {
            name: value
            for entry in entries
            if isinstance(entry, TagsEntry)
            for name, value in entry.values.items()
        }
        tags = [RunTag(name, value[:7900]) for name, value in last.items()]
        while metrics or params or tags:
            self._client.log_batch(run_id, metrics[:_METRICS], params[:_OTHERS], tags[:_OTHERS])
            metrics, params, tags = metrics[_METRICS:], params[_OTHERS:], tags[_OTHERS:]

    def _send_dataset(self, run_id: str, entry: DatasetEntry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=entry.name,
            digest=entry.digest,
            source_type="code",
            source=json.dumps(entry.source),
            profile=json.dumps(entry.profile),
        )
        for context in entry.contexts[:1]:
            used = DatasetInput(dataset, [InputTag(names.MLFLOW_CONTEXT, context)])
            self._client.log_inputs(run_id, datasets=[used])

    def _send_model(self, entry: ModelEntry, ids: dict[str, str]) -> None:
        """Log a candidate as a LoggedModel, or use one that holds exactly its files."""
        from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus

        if model_key(entry.ref) in ids:
            return
        run_id = ids[entry.ref]
        with scratch_folder("model") as scratch:
            folder = Path(scratch) / "model"
            files = write_model(entry, folder, Path(scratch))
            held = self._held_model(entry, files)
            if held is None:
                model = self._client.create_logged_model(
                    self._experiment_id,
                    name=entry.name,
                    source_run_id=run_id,
                    tags={**entry.tags, names.DIGEST: manifest_digest(files)},
                    params={k: v[:490] for k, v in entry.params.items()},
                    model_type=entry.target,
                )
                self._client.log_model_artifacts(model.model_id, str(folder))
        if held is None:
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            self._client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=0)])
        else:
            self._client.log_inputs(run_id, models=[LoggedModelInput(held)])
        self._client.set_tag(run_id, names.DIGEST, manifest_digest(files))
        self.files[entry.ref] = files
        ids[model_key(entry.ref)] = str(model.model_id) if held is None else held

    def _held_model(self, entry: ModelEntry, files: dict[str, str]) -> str | None:
        """The LoggedModel that already holds these files for this candidate.

        Anybody who reaches the server can tag a model like one of Hone's, so all files are
        compared with what this run would log.
        """
        from mlflow.entities import LoggedModelStatus

        found = self._client.search_logged_models(
            [self._experiment_id],
            filter_string=f"tags.`{names.DIGEST}` = '{manifest_digest(files)}'",
            max_results=20,
        )
        for model in found:
            if model.status != LoggedModelStatus.READY:
                continue
            if dict(model.tags).get(names.CANDIDATE) != entry.tags.get(names.CANDIDATE):
                continue
            if not (wrong := differences(files, held_files(self._uri, str(model.model_id)))):
                return str(model.model_id)
            self.doubts.append(
                f"the logged model {model.model_id} is tagged as the same as {entry.ref} and is "
                f"not ({wrong[0]} differs); it was not used"
            )
        return None


def _with_heartbeat(tags_of: dict[str, dict[str, str]], run_id: str) -> dict[str, str]:
    """Tags of a run, with its parent's heartbeat: only the parent's is written again."""
    tags = tags_of[run_id]
    parent = tags_of.get(tags.get(names.MLFLOW_PARENT, ""), {})
    return {**tags, **{n: parent[n] for n in (names.HEARTBEAT,) if n in parent}}
