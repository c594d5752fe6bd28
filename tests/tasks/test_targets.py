"""Targets: what each makes loads back in a fresh process and agrees with torch, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.artifacts import Artifact
from prefect_hone.ray_workers.module import load_module
from prefect_hone.ray_workers.runtime_process import RuntimeProcess
from prefect_hone.recipe.errors import HoneError, StepFailed
from prefect_hone.recipe.load import load_recipe
from prefect_hone.recipe.targets import all_targets, target_class
from prefect_hone.tasks.compile import loader, target_functions
from prefect_hone.tasks.compile.fixed import in_fixed_batches
from prefect_hone.tasks.environments import environment, interpreter_for
from prefect_hone.tasks.steps import compile_step
from steps_bench import Bench

INT8 = {"kind": "quantize", "scheme": "static-int8", "per_channel": True, "samples": 64}
X = np.random.default_rng(0).normal(size=(20, 13)).astype(np.float32)


@pytest.fixture
def bench(project: Path, tmp_path: Path) -> Bench:
    return Bench(project, tmp_path)


def compiled(
    bench: Bench, kind: str, factory: str, passes: list[dict], **settings: Any
) -> Artifact:
    calibration = bench.check(model={"factory": factory, "args": {}}).outputs["calibration"]
    spec = {
        "target": {"kind": kind, **settings}, "model": {"factory": factory, "args": {}},
        "passes": passes, "batch_sizes": [1, 8],
    }  # fmt: skip
    done = bench.run(
        f"compile.{kind.replace('-', '_')}:compile_graph", spec,
        module=bench.weights(factory), calibration=calibration,
    )  # fmt: skip
    return done.outputs["model"]


def predicted(bench: Bench, kind: str, artifact: Artifact, alike: float) -> np.ndarray:
    python = interpreter_for(target_class(kind).environment)
    folder = bench.store.fetch(artifact)
    with RuntimeProcess(loader(kind), folder, {"threads": 1}, python=python) as runtime:
        runtime.wait_loaded()
        whole = runtime.predict({"input": X})
        assert np.allclose(whole[:3], runtime.predict({"input": X[:3]}), atol=alike), "any batch"
        return whole


def expected(bench: Bench, factory: str) -> np.ndarray:
    folder = bench.store.fetch(bench.weights(factory))
    model = load_module({"factory": factory, "args": {}}, bench.allowed, folder)
    with torch.no_grad():
        return model(torch.from_numpy(X)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        pytest.param(kind, passes, id=f"{kind}-{'int8' if passes else 'fp32'}")
        for kind in ("inductor-cpu", "litert", "executorch", "xla", "tensorflow")
        for passes in ([], [INT8])
        if not passes or kind not in ("xla", "tensorflow")
    ],
)
def test_a_target_that_takes_modules_agrees_with_torch(
    bench: Bench, kind: str, passes: list[dict]
) -> None:
    if passes and kind == "inductor-cpu":
        pytest.importorskip("torchao")
    factory = "wine_model:conv_net"
    alike = 0.1 if passes else 1e-5  # LiteRT averages ranges over batches of each size
    found = predicted(bench, kind, compiled(bench, kind, factory, passes), alike)
    wanted = expected(bench, factory)
    if not passes:
        assert np.abs(found - wanted).max() < 1e-5
        return
    cosine = float((found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted))
    assert 0.95 < cosine < 0.999999, "int8 differs, but little"


@pytest.mark.parametrize("kind", ["onnxruntime-cpu", "openvino-cpu"])
@pytest.mark.parametrize("batch", ["dynamic", "fixed"])
def test_a_target_that_takes_graphs_agrees_with_torch(bench: Bench, kind: str, batch: str) -> None:
    if kind == "openvino-cpu":
        pytest.importorskip("openvino")
    graph, _ = bench.graph("wine_model:conv_net")
    spec: dict[str, Any] = {"target": {"kind": kind, "batch": batch}}
    if batch == "fixed":
        spec["batch_sizes"] = [8]
    done = bench.run(f"compile.{kind.replace('-', '_')}:compile_graph", spec, graph=graph)
    said = "dynamic" if batch == "dynamic" else "fixed: [1, 8]"
    assert done.params["compile/batch_axis"] == said
    found = predicted(bench, kind, done.outputs["model"], 1e-5)
    assert np.abs(found - expected(bench, "wine_model:conv_net")).max() < 1e-5


def test_a_target_refuses_a_scheme_that_it_can_not_do(bench: Bench) -> None:
    fp8 = {"kind": "quantize", "scheme": "fp8"}
    with pytest.raises(StepFailed, match="inductor-cpu can't do 'fp8'"):
        compiled(bench, "inductor-cpu", "wine_model:net", [fp8])


def test_every_target_says_what_it_needs() -> None:
    for target in all_targets():
        said = target_functions(target.kind).availability(target)
        if said is not None:
            assert said.reason
            assert said.do
        assert compile_step(target.kind).function.endswith(":compile_graph")
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
    with pytest.raises(HoneError, match="is there twice"):
        load_recipe("digits", ["targets=[{kind: openvino-cpu, precision: [bf16, bf16]}]"])


def test_environments_are_told_apart_by_their_requirements(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HONE_ENVIRONMENTS", str(tmp_path))
    names = {environment(name).folder.name for name in ("litert", "executorch", "jax")}
    assert len(names) == 3
    assert not environment("litert").is_made


def test_fixed_batches_take_any_batch() -> None:
    seen: list[int] = []

    def program(size: int):
        def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
            assert len(inputs["x"]) == size
            seen.append(size)
            return inputs["x"] * 2

        return run

    run = in_fixed_batches({4: program(4), 1: program(1)})
    x = np.arange(11.0)[:, None]
    assert np.array_equal(run({"x": x}), x * 2)
    assert seen == [4, 4, 1, 1, 1]
    only = in_fixed_batches({8: program(8)})
    assert np.array_equal(only({"x": x}), x * 2)
