"""A registered model is opened as it was measured, or not at all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from prefect_hone.runtimes import served_model
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.errors import ArtifactChanged, RuntimeFailed
from prefect_hone.runtimes.manifest import (
    MANIFEST,
    manifest_digest,
    model_files,
    write_manifest,
)
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from prefect_hone.runtimes.served_model import (
    FILES,
    ModelDescription,
    ServedModel,
    _load_pyfunc,
    artifact_digest,
    open_model,
)


def champion_in(folder: Path) -> Path:
    """The data of a registered model that doubles its input (N, 3)."""
    import onnx
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    value = make_tensor_value_info
    graph = make_graph(
        [make_node("Add", ["input", "input"], ["output"])], "twice",
        [value("input", 1, ["batch", 3])], [value("output", 1, ["batch", 3])],
    )  # fmt: skip
    files = folder / FILES
    files.mkdir(parents=True)
    model = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)
    onnx.save(model, files / "model.onnx")
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(files)
    ModelDescription(artifact_digest(folder), ("input",), {"threads": 1}).write(folder)
    return folder


def test_it_predicts_from_an_array_and_by_name(tmp_path: Path) -> None:
    model = _load_pyfunc(str(champion_in(tmp_path)))
    x = np.ones((4, 3), np.float32)
    assert np.array_equal(model.predict(x), 2 * x)
    assert np.array_equal(model.predict({"input": x}, {"any": "parameter"}), 2 * x)


@pytest.mark.parametrize("change", ["bytes", "another file", "settings", "moved"])
def test_other_bytes_than_those_that_were_measured_are_refused(tmp_path: Path, change: str) -> None:
    files = champion_in(tmp_path) / FILES
    match change:
        case "bytes":
            with (files / "model.onnx").open("ab") as stream:
                stream.write(b"\0")
        case "another file":
            (files / "more").write_text("")
        case "settings":
            CompiledArtifact("openvino").write(files)
        case "moved":
            (files / "model.onnx").rename(files / "other.onnx")
    with pytest.raises(ArtifactChanged, match="the files differ from the measured artifact"):
        _load_pyfunc(str(tmp_path))


def test_without_mlflow_it_is_opened_by_its_folder_and_the_registrys_digest(tmp_path: Path) -> None:
    champion_in(tmp_path / "data" / "data")
    x = np.ones((4, 3), np.float32)
    assert np.array_equal(open_model(tmp_path).predict(x), 2 * x)
    write_manifest(tmp_path)
    digest = manifest_digest(model_files(tmp_path))
    assert np.array_equal(open_model(str(tmp_path), digest).predict(x), 2 * x)
    (tmp_path / "MLmodel").write_text("another")
    (tmp_path / MANIFEST).unlink()
    write_manifest(tmp_path)  # as somebody who may write all files can
    assert np.array_equal(open_model(tmp_path).predict(x), 2 * x)
    with pytest.raises(ArtifactChanged, match="the registry says"):
        open_model(tmp_path, digest)
    with pytest.raises(RuntimeFailed):
        open_model(tmp_path / "data")


def test_several_inputs_come_by_name() -> None:
    model = ServedModel(lambda inputs: inputs["a"] + inputs["b"], ("a", "b"))
    assert model.predict({"b": [1.0], "a": [2.0], "c": [3.0]}) == 3
    with pytest.raises(TypeError, match="a dictionary of arrays: a, b"):
        model.predict(np.ones(2))


def test_its_path_is_in_every_registered_model() -> None:
    """If this fails, models that were registered before can't be loaded any more."""
    assert served_model.__name__ == "prefect_hone.runtimes.served_model"
    assert callable(served_model._load_pyfunc)
