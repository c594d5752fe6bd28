"""A small candidate, and a sender to log it: for tests of what MLflow holds."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
from mlflow.utils.file_utils import local_file_uri_to_path
from prefect_hone.runtimes.circumstances import circumstances
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.digest import digests_in, tree_digest
from prefect_hone.runtimes.manifest import write_manifest
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from prefect_hone.runtimes.opening import runtime
from prefect_hone.runtimes.proof import Proof
from prefect_hone.tasks.specs.check import TensorFact
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.entries import ModelEntry
from prefect_hone.tasks.tracking.registry import Promotable
from prefect_hone.tasks.tracking.runtime_wheel import requirements_of
from prefect_hone.tasks.tracking.sender import MlflowSender

X = np.ones((2, 3), np.float32)


def times(folder: Path, factor: int = 2, measured: float | None = None) -> ModelEntry:
    """A candidate that multiplies its input (N, 3).

    Args:
        folder: For its files.
        factor: What it multiplies by.
        measured: What its proof says that it multiplied by; None: it carries no proof.
    """
    import onnx
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
    from safetensors.numpy import save_file

    value = make_tensor_value_info
    files = folder / f"times-{factor}"
    files.mkdir(parents=True)
    weights = onnx.numpy_helper.from_array(np.full((1,), factor, np.float32), "factor")
    graph = make_graph(
        [make_node("Mul", ["input", "factor"], ["output"])], "times",
        [value("input", 1, ["batch", 3])], [value("output", 1, ["batch", 3])], [weights],
    )  # fmt: skip
    model = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)
    onnx.save(model, files / "model.onnx")
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(files)
    save_file({"input": X}, str(folder / "samples.safetensors"))
    sha256 = tree_digest(digests_in(files))
    tensor = TensorFact(shape=(3,), dtype="float32")
    proof = folder / f"proof-{factor}"
    if measured is not None:
        here = circumstances(runtime("onnxruntime"), 1)
        Proof.of({"input": X}, X * np.float32(measured), 40.0, here).write(proof, None)
    return ModelEntry(
        ref=f"times{factor}@onnxruntime-cpu",
        name=f"times{factor}",
        folder=str(files),
        target="onnxruntime-cpu",
        sha256=sha256,
        options={"threads": 1},
        inputs={"input": tensor},
        output=tensor,
        example=str(folder / "samples.safetensors"),
        requirements=tuple(requirements_of("onnxruntime")),
        params={},
        tags={names.SHA256: sha256, names.CANDIDATE: f"times{factor}@onnxruntime-cpu"},
        proof="" if measured is None else str(proof),
    )


def store(databases: Path, folder: Path) -> str:
    """An empty MLflow store; its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(databases / "mlflow.db", folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


def logged(uri: str, folder: Path, entry: ModelEntry) -> tuple[MlflowSender, str]:
    """Log a candidate in a run of its own; the sender, and the LoggedModel's id."""
    sender = MlflowSender(uri, str(folder / "artifacts"), "exp")
    sender.connect()
    parent = sender.create_run(None, "parent", {})
    ids = {"parent": parent, entry.ref: sender.create_run(parent, entry.ref, {})}
    sender.send([entry], ids)
    return sender, ids[f"model:{entry.ref}"]


def plain(
    uri: str, folder: Path, content: str, recipe_digest: str = "d1", who: str = "ann"
) -> Promotable:
    """Log a model that is only files, quickly; and ask for its promotion."""
    place = (folder / "artifacts").as_uri()
    made = log_files(mlflow.MlflowClient(uri), "wine", content, place)
    return made.model_copy(update={"recipe_digest": recipe_digest, "who": who})


def log_files(
    client: mlflow.MlflowClient, model: str, content: str, place: str | None = None
) -> Promotable:
    """Log a model that is only files to a server, and ask for its promotion."""
    experiment = client.get_experiment_by_name("plain")
    found = experiment.experiment_id if experiment else client.create_experiment("plain", place)
    logged = client.create_logged_model(found, name="plain")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "data").mkdir()
        (Path(scratch) / "MLmodel").write_text("flavors: {}")
        (Path(scratch) / "data" / "model.onnx").write_text(content)
        files = write_manifest(Path(scratch))
        client.log_model_artifacts(logged.model_id, scratch)
    return Promotable(
        model=model, alias="champion", model_id=logged.model_id, sha256=content, files=files,
        recipe_digest="d1", tags={names.CANDIDATE: "int8@onnxruntime-cpu"}, who="ann",
    )  # fmt: skip


def place_of(uri: str, model_id: str) -> Path:
    """The folder of a logged model."""
    place = mlflow.MlflowClient(uri).get_logged_model(model_id).artifact_location
    return Path(local_file_uri_to_path(place))


def aliases(uri: str, model: str = "wine") -> dict[str, str]:
    """Aliases of a registered model, and their versions."""
    found = mlflow.MlflowClient(uri).get_registered_model(model).aliases
    return {name: str(version) for name, version in found.items()}
