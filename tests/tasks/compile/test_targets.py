"""Targets: what each makes loads back in a fresh process and agrees with torch, or says why not."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import arrays, call_model
from prefect_hone.ray_workers.model.module import save_module
from prefect_hone.ray_workers.runtime_process import RuntimeProcess, interpreter_for
from prefect_hone.ray_workers.store.artifacts import Artifact
from prefect_hone.recipe.errors import HoneError, StepFailed
from prefect_hone.recipe.load import load_recipe
from prefect_hone.recipe.targets import all_targets, target_class
from prefect_hone.tasks.compile import target_functions
from prefect_hone.tasks.steps import compile_step, loader
from steps_bench import Bench
from torch.utils.data import default_collate

INT8 = {"kind": "quantize", "scheme": "static-int8", "per_channel": True, "samples": 64}
DATA = {"pair": "wine_data:pairs"}


@pytest.fixture
def bench(project: Path, tmp_path: Path) -> Bench:
    return Bench(project, tmp_path)


class Trained:
    """A model of the test project, trained for a moment, and the test split.

    Args:
        bench: The workbench.
        name: Of its factory.
    """

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.model = {"factory": f"wine_model:{name}", "args": {}}
        self.data = {"factory": DATA.get(name, "wine_data:wine"), "args": {}}
        data = bench.allowed.call(self.data["factory"], {}, "data")
        torch.manual_seed(0)
        module = bench.allowed.call(self.model["factory"], {}, "model")
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        x, y = default_collate([data.train[i] for i in range(len(data.train))])
        for _ in range(80):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(call_model(module, x), y).backward()
            optimizer.step()
        folder = bench.folder / f"trained-{name}"
        folder.mkdir()
        save_module(module, [], folder)
        self.weights = bench.store.put(folder, "weights")
        self.checked = bench.check(model=self.model, data=self.data).outputs["calibration"]
        x, self.target = default_collate([data.test[i] for i in range(len(data.test))])
        self.inputs = arrays(x)
        with torch.no_grad():
            self.expected = call_model(module.eval(), x).numpy()

    @cached_property
    def exported(self) -> Artifact:
        return self.bench.run(
            "export:export", {"model": self.model}, weights=self.weights, inputs=self.checked
        ).outputs["graph"]

    def compiled(self, kind: str, passes: list[dict], **settings: Any) -> Artifact:
        spec = {"target": {"kind": kind, **settings}}
        if settings.get("batch") == "fixed":
            spec["batch_sizes"] = [8]
        if target_class(kind).takes == "module":
            spec |= {"model": self.model, "passes": passes, "batch_sizes": [1, 8]}
            inputs = {"module": self.weights, "calibration": self.checked}
        else:
            graph = self.exported
            for step in passes:
                graph = self.bench.run(
                    "compress.quantize:apply", {"compression": step}, graph=graph,
                    calibration=self.checked,
                ).outputs["graph"]  # fmt: skip
            inputs = {"graph": graph}
        function = f"compile.{kind.replace('-', '_')}:compile_graph"
        done = self.bench.run(function, spec, **inputs)
        assert done.peak_memory > 50e6
        self.params = done.params
        return done.outputs["model"]

    def predicted(self, kind: str, artifact: Artifact, alike: float = 1e-5) -> np.ndarray:
        """Outputs on the test split, in a fresh process."""
        python = interpreter_for(target_class(kind).environment)
        folder = self.bench.store.fetch(artifact)
        with RuntimeProcess(loader(kind), folder, {"threads": 1}, python=python) as runtime:
            runtime.wait_loaded()
            whole = runtime.predict(self.inputs)
            few = runtime.predict({name: value[:3] for name, value in self.inputs.items()})
            assert np.allclose(whole[:3], few, atol=alike), "any batch"
            return whole

    def accuracy(self, outputs: np.ndarray) -> float:
        return float((outputs.argmax(1) == self.target.numpy()).mean())


GRAPH_TARGETS = ("onnxruntime-cpu", "openvino-cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, "pair") for kind in (*GRAPH_TARGETS, "inductor-cpu")),
        *((kind, "conv_net") for kind in GRAPH_TARGETS),
        *(  # each in an isolated environment, which takes a minute to make
            pytest.param(kind, "pair", marks=pytest.mark.nightly)
            for kind in ("litert", "executorch", "tensorflow", "xla")
        ),
        pytest.param("xla", "conv_net", marks=pytest.mark.nightly),
    ],
)
def test_a_target_agrees_with_torch(bench: Bench, kind: str, name: str) -> None:
    """Images, and dictionaries with integers in and several outputs out."""
    if kind == "openvino-cpu":
        pytest.importorskip("openvino")
    trained = Trained(bench, name)
    found = trained.predicted(kind, trained.compiled(kind, []))
    assert np.abs(found - trained.expected).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *GRAPH_TARGETS,
        *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("litert", "executorch")),
    ],
)
def test_int8_stays_within_the_quality_gate(bench: Bench, kind: str) -> None:
    if kind == "openvino-cpu":
        pytest.importorskip("openvino")
        pytest.importorskip("nncf")
    trained = Trained(bench, "conv_net")
    # OpenVINO 2026.4 can't load ONNX Runtime's int8 of a convolution of one channel
    step = {**INT8, "engine": "nncf"} if kind == "openvino-cpu" else INT8
    found = trained.predicted(kind, trained.compiled(kind, [step]), alike=0.2)
    whole = trained.accuracy(trained.expected)
    assert whole > 0.9
    assert trained.accuracy(found) >= whole - 0.05
    assert np.abs(found - trained.expected).max() > 1e-4, "it was quantized"


@pytest.mark.nightly
def test_inductors_int8_computes_nearly_the_same(bench: Bench) -> None:
    pytest.importorskip("torchao")
    trained = Trained(bench, "conv_net")
    found = trained.predicted("inductor-cpu", trained.compiled("inductor-cpu", [INT8]), alike=0.1)
    wanted = trained.expected
    cosine = float((found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted))
    assert 0.95 < cosine < 0.9999999, "int8 differs, but little"


@pytest.mark.slow
@pytest.mark.parametrize("kind", GRAPH_TARGETS)
def test_fixed_batch_sizes_agree_with_torch_and_are_told(bench: Bench, kind: str) -> None:
    if kind == "openvino-cpu":
        pytest.importorskip("openvino")
    trained = Trained(bench, "conv_net")
    found = trained.predicted(kind, trained.compiled(kind, [], batch="fixed"))
    assert trained.params["compile/batch_axis"] == "fixed: [1, 8]"
    assert np.abs(found - trained.expected).max() < 1e-5


@pytest.mark.parametrize("kind", GRAPH_TARGETS)
def test_weights_beside_the_graph_go_all_the_way(bench: Bench, kind: str, monkeypatch: Any) -> None:
    """As those of a model of more than 2 GB do."""
    if kind == "openvino-cpu":
        pytest.importorskip("openvino")
    monkeypatch.setattr("prefect_hone.ray_workers.model.onnx_files._BESIDE_ABOVE", 1000)
    trained = Trained(bench, "net")
    for passes in ([], [INT8]):
        artifact = trained.compiled(kind, passes)
        found = trained.predicted(kind, artifact)
        assert trained.accuracy(found) >= trained.accuracy(trained.expected) - 0.05
        assert passes or np.abs(found - trained.expected).max() < 1e-5
        if kind == "onnxruntime-cpu":
            assert "model.onnx.data" in artifact.files


def test_a_target_refuses_a_scheme_that_it_can_not_do(bench: Bench) -> None:
    fp8 = {"kind": "quantize", "scheme": "fp8"}
    with pytest.raises(StepFailed, match="inductor-cpu can't do 'fp8'"):
        Trained(bench, "net").compiled("inductor-cpu", [fp8])
    with pytest.raises(StepFailed, match="xla can't do 'static-int8'"):
        Trained(bench, "conv_net").compiled("xla", [INT8])


def test_every_target_says_what_it_needs() -> None:
    for target in all_targets():
        said = target_functions(target.kind).availability(target)
        if said is not None:
            assert said.reason
            assert said.do
        assert compile_step(target).function.endswith(":compile_graph")
    gpu = [t for t in all_targets() if t.gpu]
    assert {t.kind for t in gpu} == {
        "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "inductor-cuda",
    }  # fmt: skip
    if not Path("/dev/nvidia0").exists():
        for target in gpu:
            said = target_functions(target.kind).availability(target)
            assert said is not None
            assert "no NVIDIA GPU" in said.reason
            assert not said.installable


def test_settings_that_are_lists_are_tried_one_by_one() -> None:
    option = "targets=[{kind: openvino-cpu, precision: [fp32, bf16], threads: [1, 2]}, litert]"
    names = [t.name for t in load_recipe("digits", [option]).targets]
    assert names == [
        "openvino-cpu-threads1", "openvino-cpu-threads2", "openvino-cpu-bf16-threads1",
        "openvino-cpu-bf16-threads2", "litert",
    ]  # fmt: skip
    with pytest.raises(HoneError, match="is defined twice"):
        load_recipe("digits", ["targets=[{kind: openvino-cpu, precision: [bf16, bf16]}]"])
