"""`hone bench`: compiled models beside each other, by folder or by their names in the registry."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from prefect_hone.flows.cli.bench import asked_scenarios, show_side_by_side
from prefect_hone.recipe.errors import InputError
from prefect_hone.runtimes.circumstances import circumstances
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from prefect_hone.runtimes.opening import runtime
from prefect_hone.runtimes.proof import PROOF, Proof
from prefect_hone.runtimes.served_model import FILES, ModelDescription
from prefect_hone.tasks.benchmark.side_by_side import Compiled, Row, SideBySide, inputs_for
from prefect_hone.tasks.specs.benchmark import OtherLoad, ScenarioResult
from rich.console import Console

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def artifact(folder: Path) -> Path:
    """ONNX Runtime's, which doubles its input."""
    folder.mkdir(parents=True)
    row = [None, 3]
    graph = make_graph(
        [make_node("Add", ["input", "input"], ["output"])],
        "twice",
        [make_tensor_value_info("input", TensorProto.FLOAT, row)],
        [make_tensor_value_info("output", TensorProto.FLOAT, row)],
    )
    onnx.save(
        make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10),
        folder / "model.onnx",
    )
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", input=X)
    return str(tmp_path / "x.npz")


QUICK = ("--seconds", "0.05", "--launches", "2")


def test_each_is_timed_against_the_first_and_what_fails_is_told(
    hone, tmp_path: Path, inputs: str
) -> None:
    first, other = artifact(tmp_path / "first"), artifact(tmp_path / "other")
    broken = artifact(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    sizes = ("-b", "1", "-b", "8")
    models = (str(first), str(other), str(broken))
    done = hone.answer("bench", *models, "--inputs", inputs, *sizes, *QUICK, "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    one, two, bad = said["rows"]
    for row in (one, two):
        assert set(row["timings"]) == {"1", "8"}
        assert all(0 < t["p50_ms_low"] <= t["p50_ms"] for t in row["timings"].values())
        assert row["memory_bytes"] > 5_000_000
        assert row["size_bytes"] > 100
    assert one["timings"]["8"]["ratio"] == 1
    assert two["timings"]["8"]["ratio_low"] <= two["timings"]["8"]["ratio"]
    assert bad["timings"] == {}
    assert bad["failed"]
    assert said["others"]["slices"] == 2 * 2 * 2 * 3, "models, sizes, launches, rounds"


def test_scenarios_are_measured_as_in_a_run(hone, tmp_path: Path, inputs: str) -> None:
    first = artifact(tmp_path / "first")
    done = hone.answer("bench", str(first), "--inputs", inputs, "--offline", *QUICK, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["scenarios"]["offline"]["rate"] > 100
    assert row["scenarios"]["offline"]["rate_low"] <= row["scenarios"]["offline"]["rate"]

    slow = ScenarioResult(problem="no rate holds a p99 of 5 ms", in_short="too slow")
    made = Row(name="mine", runtime="onnxruntime", size_bytes=1, scenarios={"server": slow})
    console = Console(width=100, record=True, file=io.StringIO())
    show_side_by_side(console, SideBySide(rows=[made], others=OtherLoad()))
    assert "no rate holds a p99 of 5 ms" in console.export_text()
    assert [s.kind for s in asked_scenarios(True, 5.0, 2)] == ["offline", "server"]


def test_the_table_says_what_can_be_told_apart(hone, tmp_path: Path, inputs: str) -> None:
    folders = [str(artifact(tmp_path / name)) for name in ("a", "b")]
    done = hone.answer("bench", *folders, "--inputs", inputs, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "1 sample a call" in done.stdout
    assert "times faster" in done.stdout
    assert "onnxruntime" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "this is no folder and names no version"),
        (["."], "this is no compiled model of Hone's"),
        (["{first}", "{first}"], "this is given twice"),
        (["{first}"], "none of these models carries inputs"),
        (["{first}", "--instances", "2"], "a single stream has one process"),
        (["{first}", "--offline", "--instances", "256"], "don't fit on"),
        (["{first}", "--inputs", "/dev/null"], "the inputs can't be read"),
        (["{first}", "--inputs", "{uneven}"], "the inputs have no common number of samples"),
        (["{first}", "--inputs", "{empty}"], "the inputs have no common number of samples"),
    ],
)
def test_what_can_not_be_measured_is_a_sentence(
    hone, tmp_path: Path, arguments: list[str], said: str
) -> None:
    places = {
        "first": artifact(tmp_path / "first"),
        "uneven": tmp_path / "uneven.npz",
        "empty": tmp_path / "empty.npz",
    }
    np.savez(places["uneven"], input=X, other=X[:2])
    np.savez(places["empty"])
    done = hone.answer("bench", *(text.format(**places) for text in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("inside", ["", "data/data"])
def test_a_model_of_mlflows_brings_its_own_inputs(tmp_path: Path, inside: str) -> None:
    """As a folder that was downloaded, and as the data within."""
    data = tmp_path / "model" / inside
    files = artifact(data / FILES)
    ModelDescription("0" * 64, ("input",), {"threads": 1}, "inputs").write(data)
    Proof.of({"input": X}, 2 * X, 60, circumstances(runtime("onnxruntime"), 1)).write(
        data / PROOF, None
    )
    model = Compiled.read("mine", tmp_path / "model")
    assert (model.folder, model.runtime) == (files, "onnxruntime")
    assert np.array_equal(inputs_for([model], None)["input"], X)
    shutil.rmtree(data / PROOF)
    ModelDescription("0" * 64, ("input",), {"threads": 1}).write(data)
    with pytest.raises(InputError, match="none of these models carries inputs"):
        inputs_for([Compiled.read("mine", tmp_path / "model")], None)
