"""A model repeats what was measured where it is loaded, or it is refused in a sentence."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.runtimes import onnxruntime_runtime, proof
from prefect_hone.runtimes.circumstances import Circumstances, circumstances
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.errors import ArtifactChanged, RuntimeFailed
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from prefect_hone.runtimes.opening import runtime
from prefect_hone.runtimes.predict import Arrays, LoadOptions, Predict
from prefect_hone.runtimes.proof import PROOF, Proof, Synthetic, Unproven
from prefect_hone.runtimes.served_model import (
    FILES,
    ModelDescription,
    _load_pyfunc,
    artifact_digest,
)

HERE = circumstances(runtime("onnxruntime"), 2)


def integers(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Inputs (8, 64) of unsigned and weights (64, 10) of signed 8-bit integers, as floats."""
    drawn = np.random.default_rng(seed)
    return (
        drawn.integers(0, 256, (8, 64)).astype(np.float32),
        drawn.integers(-127, 128, (64, 10)).astype(np.float32),
    )


def champion_in(folder: Path, seed: int = 0, parity_db: float = 34.0, kind: str = "inputs") -> Path:
    """The data of a registered model, a matrix product, with its proof."""
    import onnx
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    inputs, weights = integers(seed)
    value = make_tensor_value_info
    graph = make_graph(
        [make_node("MatMul", ["input", "weights"], ["output"])], "product",
        [value("input", 1, ["batch", 64])], [value("output", 1, ["batch", 10])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    files = folder / FILES
    files.mkdir(parents=True)
    model = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)
    onnx.save(model, files / "model.onnx")
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(files)
    synthetic = None
    if kind == "synthetic":
        like = Synthetic.like(inputs, 8)
        inputs, synthetic = like.values(7), (7, {"input": like})
    measured = onnxruntime_runtime.load(files, {"threads": 2})({"input": inputs})
    proven = Proof.of({"input": inputs}, measured, parity_db, HERE)
    proven.write(folder / PROOF, synthetic)
    ModelDescription(artifact_digest(folder), ("input",), {"threads": 1}, kind).write(folder)  # type: ignore[arg-type]
    return folder


def saturating(folder: Path, options: LoadOptions) -> Predict:
    """The product as a processor without VNNI computes it in 8 bits: pairs summed in 16 bits."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])

    def predict(inputs: Arrays) -> np.ndarray[Any, Any]:
        products = inputs["input"][:, :, None] * weights
        pairs = products[:, ::2] + products[:, 1::2]
        summed: np.ndarray[Any, Any] = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)
        return summed.astype(np.float32)

    return predict


@pytest.mark.parametrize("kind", ["inputs", "synthetic"])
def test_a_runtime_that_saturates_is_refused_20_of_20(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    places = [champion_in(tmp_path / str(seed), seed, kind=kind) for seed in range(20)]
    for place in places:
        _load_pyfunc(str(place))
    monkeypatch.setattr(onnxruntime_runtime, "load", saturating)
    refused = 0
    for place in places:
        with pytest.raises(Unproven, match="not those that were measured") as refusal:
            _load_pyfunc(str(place))
        refused += 1
        assert "HONE_UNPROVEN=warn" in str(refusal.value)
    assert refused == 20


def test_tampered_files_are_refused_20_of_20(tmp_path: Path) -> None:
    """A weight, an input or a measured output of the proof, or the whole proof."""
    refused = 0
    for seed in range(20):
        place = champion_in(tmp_path / str(seed), seed)
        match seed % 4:
            case 0:
                with (place / FILES / "model.onnx").open("r+b") as stream:
                    stream.seek(-40 - seed, 2)
                    stream.write(bytes([seed] * 4))
            case 1:
                np.save(place / PROOF / "input-0.npy", integers(seed + 100)[0])
            case 2:
                held = np.load(place / PROOF / "output.npy")
                held[seed % 8] = -held[seed % 8]
                np.save(place / PROOF / "output.npy", held)
            case 3:
                (place / PROOF / "proof.json").unlink()
        with pytest.raises((ArtifactChanged, Unproven, RuntimeFailed)):
            _load_pyfunc(str(place))
        refused += 1
    assert refused == 20


@pytest.mark.parametrize("loads", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_no_refusal_in_many_loads_with_any_threads(tmp_path: Path, loads: int) -> None:
    """The strictest proof, of a candidate that is as exact as its trained model."""
    place = champion_in(tmp_path, parity_db=130.0)
    described = ModelDescription.read(place)
    inputs, weights = integers(0)
    for index in range(loads):
        if index % 20 < 2:  # one of 20 loads has several threads, which are slow to start
            threads = 1 if index % 20 else (2, 3, 4, 8, 16)[index // 20 % 5]
            replace(described, options={"threads": threads}).write(place)
        model = _load_pyfunc(str(place))
    assert np.allclose(model.predict(inputs), inputs @ weights)


def test_warn_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = champion_in(tmp_path)
    monkeypatch.setattr(onnxruntime_runtime, "load", saturating)
    monkeypatch.setenv("HONE_UNPROVEN", "warn")
    with caplog.at_level(logging.WARNING, "hone"):
        _load_pyfunc(str(place))
    (said,) = caplog.messages
    assert "not those that were measured" in said
    monkeypatch.setenv("HONE_UNPROVEN", "refuse")
    with pytest.raises(Unproven):
        _load_pyfunc(str(place))


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({"features": ("avx2",)}, "this processor lacks avx512_vnni, which the measured one has"),
        ({"features": ("avx2", "avx512_vnni", "fma")}, "has fma, which the measured one lacks"),
        ({"architecture": "aarch64"}, "this processor is aarch64, and x86_64 was measured"),
        ({"versions": {"onnxruntime": "9"}}, "onnxruntime is 9 here, and 1.32.0 was measured"),
        ({"versions": {}}, "onnxruntime is absent here, and 1.32.0 was measured"),
        ({"threads": 64}, "so the files or the runtime were altered"),
    ],
)
def test_the_refusal_names_the_difference(here: dict[str, Any], said: str) -> None:
    there = Circumstances("x86_64", ("avx2", "avx512_vnni"), {"onnxruntime": "1.32.0"}, 2)
    x = np.ones((2, 3), np.float32)
    made = Proof.of({"input": x}, x, 40.0, there)
    assert made.require(lambda inputs: inputs["input"], replace(there, **here)) > 100
    with pytest.raises(Unproven) as refusal:
        made.require(lambda inputs: 2 * inputs["input"], replace(there, **here))
    assert said in refusal.value.what
    assert "\n" not in refusal.value.what


def test_outputs_of_another_shape_not_finite_or_none_are_refused() -> None:
    x = np.ones((2, 3), np.float32)
    made = Proof.of({"input": x}, x, 40.0, HERE)

    def fails(_: Arrays) -> Any:
        raise ValueError("no such kernel")

    for predict in (lambda _: x[:1], lambda _: x * np.nan, lambda _: x * np.inf):
        with pytest.raises(Unproven, match="not those that were measured"):
            made.require(predict, HERE)
    with pytest.raises(Unproven, match=r"can't run its own proof \(no such kernel"):
        made.require(fails, HERE)


@pytest.mark.parametrize(("parity", "least"), [(2.0, 30.0), (34.04, 34.0), (130.0, 60.0)])
def test_the_tolerance_is_the_error_that_was_accepted(parity: float, least: float) -> None:
    x = np.ones((2, 3), np.float32)
    assert Proof.of({"input": x}, x, parity, HERE).least_db == least


def test_the_same_measurement_gives_the_same_bytes(tmp_path: Path) -> None:
    for kind in ("inputs", "synthetic"):
        files = []
        for name in ("a", "b"):
            place = champion_in(tmp_path / kind / name, kind=kind) / PROOF
            files.append({p.name: p.read_bytes() for p in place.iterdir()})
        assert files[0] == files[1]
        assert ("input-0.npy" in files[0]) == (kind == "inputs")


def test_synthetic_inputs_tell_the_spread_alone() -> None:
    values = np.random.default_rng(0).normal(5, 2, (64, 4)).astype(np.float32)
    like = Synthetic.like(values, 8)
    drawn = like.values(1)
    assert drawn.shape == (8, 4)
    assert drawn.dtype == np.float32
    assert abs(drawn.mean() - 5) < 2
    tokens = Synthetic.like(np.array([[3, 9]], np.int64), 8).values(1)
    assert set(tokens.ravel()) <= set(range(3, 10))
    mask = Synthetic.like(np.array([[True, False]]), 8).values(1)
    assert mask.dtype == bool


def test_a_large_output_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MOST_BYTES", 1000)
    x = np.arange(4000, dtype=np.float32).reshape(2, 20, 100)
    Proof.of({"input": x}, x, 40.0, HERE).write(tmp_path / "p", None)
    read = Proof.read(tmp_path / "p")
    assert read.output.nbytes <= 1100
    assert read.distance(x) > 100
    assert read.distance(x[:, ::-1]) < 20


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": 3}, {"shape": []}, {"shape": "8"}, {"every": 0}, {"every": True},
        {"least_db": -100}, {"least_db": None}, {"measured": []}, {"measured": {}},
        {"synthetic": []}, {"synthetic": {"input": {"shape": [10**9, 10**9]}}, "seed": 1},
        {"synthetic": {"input": {"shape": [2], "dtype": "O", "low": 0, "high": 1}}, "seed": 1},
    ],
)  # fmt: skip
def test_a_crafted_proof(tmp_path: Path, changed: dict[str, Any]) -> None:
    x = np.ones((2, 3), np.float32)
    Proof.of({"input": x}, x, 40.0, HERE).write(tmp_path / "p", None)
    said = json.loads((tmp_path / "p" / "proof.json").read_text())
    (tmp_path / "p" / "proof.json").write_text(json.dumps({**said, **changed}))
    with pytest.raises(RuntimeFailed):
        Proof.read(tmp_path / "p")


def test_a_model_without_a_proof_loads_as_before(tmp_path: Path) -> None:
    place = champion_in(tmp_path)
    said = json.loads((place / "hone.json").read_text())
    del said["proof"]
    (place / "hone.json").write_text(json.dumps(said))
    assert ModelDescription.read(place).proof is None
    _load_pyfunc(str(place))
