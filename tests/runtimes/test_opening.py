"""Each runtime imports numpy and its own library, and opens what its targets made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prefect_hone.recipe.targets import all_targets, target_class, target_kinds
from prefect_hone.runtimes import opening
from prefect_hone.runtimes.child_process import ChildProcess
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.errors import RuntimeFailed, RuntimeMissing
from prefect_hone.runtimes.isolated.environment import EnvironmentFailed
from prefect_hone.runtimes.opening import RUNTIMES, open_artifact, runtime
from prefect_hone.tasks.compile import target_functions
from prefect_hone.tasks.steps import loader, loader_module, runtime_of

ROOM = Path(opening.__file__).parent
#: What a runtime's library brings itself may be anything; these must not come with it.
HEAVY = {"torch", "ray", "mlflow", "prefect", "pydantic", "onnx", "openvino", "onnxruntime", "jax"}


def new_modules(code: str) -> set[str]:
    """Top-level modules that code imports which neither the standard library nor numpy does, and
    those of ours outside this room.
    """
    program = (
        "import sys, numpy, json, logging, multiprocessing.connection\n"
        "before = {m.partition('.')[0] for m in sys.modules}\n"
        f"{code}\n"
        "after = {m for m in sys.modules if m.partition('.')[0] not in before}\n"
        "print('FOUND', json.dumps(sorted(after)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    ours = {m for m in found if m.startswith("prefect_hone.")}
    others = {m.partition(".")[0] for m in found} - {"prefect_hone"}
    outside = {m for m in ours if not m.startswith("prefect_hone.runtimes")}
    return outside | (others - sys.stdlib_module_names)


@pytest.mark.parametrize(
    "module",
    sorted(
        "prefect_hone.runtimes." + ".".join(path.relative_to(ROOM).with_suffix("").parts)
        for path in ROOM.rglob("*.py")
        if path.name != "__init__.py"
    ),
)
def test_a_module_of_this_room_imports_only_numpy(module: str) -> None:
    assert new_modules(f"import {module}") == set()


def test_the_table_has_every_file_and_every_target() -> None:
    files = {path.name.removesuffix("_runtime.py") for path in ROOM.glob("*_runtime.py")}
    assert set(RUNTIMES) == files == {runtime(name).NAME for name in RUNTIMES}
    for kind in target_kinds():
        module, _, function = loader(kind).partition(":")
        found = runtime(runtime_of(kind))
        assert module == loader_module(kind) == f"prefect_hone.runtimes.{found.NAME}_runtime"
        assert function == "load"
        assert target_functions(kind).load is found.load
        assert target_class(kind).environment == found.ENVIRONMENT
    assert {t.runtime for t in all_targets()} <= {
        distribution for name in RUNTIMES for distribution in runtime(name).LIBRARIES.values()
    }


def test_an_artifact_can_not_name_another_module(tmp_path: Path) -> None:
    for name in ("os", "..tasks.train", "nothing"):
        CompiledArtifact(runtime=name).write(tmp_path)
        with pytest.raises(RuntimeFailed, match="there is no runtime"):
            open_artifact(tmp_path, {})


def test_settings_come_back(tmp_path: Path) -> None:
    artifact = CompiledArtifact("xla", ("b", "a"), (1, 8), {"z": [["x", {}]], "a": None})
    artifact.write(tmp_path)
    assert CompiledArtifact.read(tmp_path) == artifact
    assert artifact.batch_axis == "fixed: [1, 8]"
    assert CompiledArtifact("xla").batch_axis == "dynamic"


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda _: None)
    CompiledArtifact(runtime="openvino").write(tmp_path)
    with pytest.raises(RuntimeMissing, match="pip install openvino"):
        open_artifact(tmp_path, {})

    def fails(name: str, note: object) -> None:
        raise EnvironmentFailed(f"the environment for {name} can't be created: no network")

    monkeypatch.setattr("prefect_hone.runtimes.isolated.environment.make_environment", fails)
    CompiledArtifact(runtime="xla").write(tmp_path)
    with pytest.raises(RuntimeMissing, match=r"pip install jax==.* safetensors==") as caught:
        open_artifact(tmp_path, {})
    assert "no network" in caught.value.what


def an_onnx_graph(folder: Path) -> Path:
    """Twice the input, as ONNX."""
    import onnx
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    value = make_tensor_value_info
    graph = make_graph(
        [make_node("Add", ["input", "input"], ["output"])], "twice",
        [value("input", 1, ["batch", 3])], [value("output", 1, ["batch", 3])],
    )  # fmt: skip
    path = folder / "model.onnx"
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10), path)
    return path


def make_onnxruntime(folder: Path, sizes: tuple[int, ...] | None) -> None:
    from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings

    an_onnx_graph(folder)
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", batch_sizes=sizes, settings=asdict(settings)).write(folder)


def make_openvino(folder: Path, sizes: tuple[int, ...] | None) -> None:
    import gzip

    openvino = pytest.importorskip("openvino")
    from prefect_hone.runtimes import openvino_runtime as ours

    path = an_onnx_graph(folder)
    model = ours.core().read_model(str(path))
    path.unlink()
    plain = folder / ours.DESCRIPTION
    openvino.save_model(model, str(plain), compress_to_fp16=False)
    if not (folder / ours.WEIGHTS).stat().st_size:  # a graph without weights
        (folder / ours.WEIGHTS).write_bytes(b"\0")
    (folder / ours.PACKED).write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    settings = asdict(ours.OpenVinoSettings("CPU"))
    CompiledArtifact("openvino", batch_sizes=sizes, settings=settings).write(folder)


def make_inductor(folder: Path, sizes: tuple[int, ...] | None) -> None:
    import torch
    from prefect_hone.ray_workers.torch_private import make_package
    from prefect_hone.runtimes import inductor_runtime as ours

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    axis = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Twice(), (torch.ones(2, 3),), dynamic_shapes=({0: axis},))
    make_package(program, folder / ours.PACKAGE, {})
    settings = asdict(ours.InductorSettings("cpu"))
    CompiledArtifact("inductor", ("input",), settings=settings).write(folder)


MAKERS = {
    "onnxruntime": make_onnxruntime,
    "openvino": make_openvino,
    "inductor": make_inductor,
}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("onnxruntime", None), ("onnxruntime", (1, 4)), ("openvino", None), ("openvino", (1, 4)),
        pytest.param("inductor", None, marks=pytest.mark.nightly),
    ],
)  # fmt: skip
def test_a_runtime_opens_its_artifact_with_its_own_library_only(
    tmp_path: Path, name: str, sizes: tuple[int, ...] | None
) -> None:
    MAKERS[name](tmp_path, sizes)
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.save(tmp_path / "x.npy", x)
    code = (
        "from pathlib import Path\n"
        "from prefect_hone.runtimes.opening import open_artifact\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "x = numpy.load(folder / 'x.npy')\n"
        "predict = open_artifact(folder, {'threads': 1})\n"
        "assert numpy.array_equal(predict({'input': x}), 2 * x)\n"
        "assert numpy.array_equal(predict({'input': x[:1]}), 2 * x[:1])"
    )
    own = set(runtime(name).LIBRARIES)
    if name == "inductor":  # torch may bring anything that is installed beside it
        assert own <= new_modules(code)
        return
    found = new_modules(code)
    assert own <= found
    assert not found & (HEAVY - own)
    assert not {module for module in found if module.startswith("prefect_hone")}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_models_that_come_and_go_leave_the_processs_signals_alone(
    tmp_path: Path, name: str
) -> None:
    MAKERS[name](tmp_path, None)
    code = f"""
import faulthandler, gc, signal
from pathlib import Path
from prefect_hone.runtimes.opening import open_artifact
faulthandler.enable()  # gives the process an alternate signal stack
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
served = open_artifact(Path({str(tmp_path)!r}), {{'threads': 1}})
for _ in range(3):  # a server opens the new champion before it lets go of the one before
    new = open_artifact(Path({str(tmp_path)!r}), {{'threads': 1}})
    served = new
    del new
    gc.collect()
    signal.raise_signal(signal.SIGUSR1)
del served
gc.collect()
signal.raise_signal(signal.SIGUSR1)
print(len(seen))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["4"]), done.stderr


def test_what_can_not_be_imported_here_is_opened_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_onnxruntime(tmp_path, None)
    monkeypatch.setattr(runtime("onnxruntime"), "ENVIRONMENT", "jax")
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda _: None)
    made = []

    def make(name: str, note: object) -> SimpleNamespace:
        made.append(name)
        return SimpleNamespace(interpreter=(sys.executable, dict(os.environ)))

    monkeypatch.setattr("prefect_hone.runtimes.isolated.environment.make_environment", make)
    x = np.ones((2, 3), np.float32)
    predict = open_artifact(tmp_path, {"threads": 1})
    assert made == ["jax"]
    assert np.array_equal(predict({"input": x}), 2 * x)
    assert isinstance(predict.__self__, ChildProcess)
    predict.__self__.close()
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(RuntimeFailed, match="the runtime raised"):
        open_artifact(tmp_path, {"threads": 1})
