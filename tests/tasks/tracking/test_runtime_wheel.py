"""The wheel that travels with a model opens it where there is no Hone and no torch."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from prefect_hone import __version__
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.digest import digests_in, tree_digest
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings
from prefect_hone.runtimes.opening import RUNTIMES, runtime
from prefect_hone.tasks.specs.check import TensorFact
from prefect_hone.tasks.tracking import names, runtime_wheel
from prefect_hone.tasks.tracking.entries import ModelEntry, RunStatus
from prefect_hone.tasks.tracking.runtime_wheel import build_wheel, requirements_of
from prefect_hone.tasks.tracking.tracker import Tracker
from safetensors.numpy import save_file

ROOM = Path(runtime_wheel.room.__file__).parent
X = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_the_same_files_give_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    one, other = build_wheel(tmp_path / "one"), build_wheel(tmp_path / "other")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()
    copy = tmp_path / "runtimes"
    shutil.copytree(ROOM, copy, ignore=shutil.ignore_patterns("__pycache__"))
    os.utime(copy / "child.py", (0, 0))
    (copy / "child.py").chmod(0o600)
    monkeypatch.setattr(runtime_wheel.room, "__file__", str(copy / "__init__.py"))
    assert build_wheel(tmp_path / "copy").read_bytes() == one.read_bytes()
    with (copy / "child.py").open("a") as stream:
        stream.write("# changed\n")
    assert build_wheel(tmp_path / "changed").name != one.name, "no environment is taken for another"


def test_it_holds_this_room_and_lists_it(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    assert wheel.name.startswith(f"hone_runtimes-{__version__}-0")
    info = f"hone_runtimes-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
        record = archive.read(f"{info}/RECORD").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        rows = list(csv.reader(record.splitlines()))
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            assert (digest, int(size)) == (f"sha256={found.decode()}", len(content)), name
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert {row[0] for row in rows} == set(held)
    assert len(held) == len(set(held))
    ours = {name for name in held if not name.startswith(info)}
    room = {p.relative_to(ROOM).as_posix() for p in ROOM.rglob("*") if p.suffix in (".py", ".txt")}
    assert ours == {f"prefect_hone/runtimes/{name}" for name in room}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert [line for line in needed if "extra ==" not in line] == ["Requires-Dist: numpy>=2"]
    for name in RUNTIMES:
        assert f"Provides-Extra: {name}" in metadata.splitlines()
        listed = sum(f'extra == "{name}"' in line for line in needed)
        assert listed == len(runtime(name).LIBRARIES), name


def test_a_model_asks_for_the_runtime_as_it_was_measured() -> None:
    assert requirements_of("onnxruntime") == [
        f"numpy=={version('numpy')}", f"onnxruntime=={version('onnxruntime')}",
    ]  # fmt: skip
    torch = next(r for r in requirements_of("inductor") if r.startswith("torch=="))
    assert "+" not in torch
    pinned = requirements_of("xla")
    assert [r.partition("==")[0] for r in pinned] == ["numpy", "jax", "safetensors"]
    lines = (ROOM / "isolated" / "jax.txt").read_text().splitlines()
    assert set(pinned) <= set(lines)


@pytest.fixture
def logged(tmp_path: Path, databases: Path) -> Path:
    """A model as a run logs it, downloaded from MLflow; it doubles its input (N, 3)."""
    value = make_tensor_value_info
    graph = make_graph(
        [make_node("Add", ["input", "input"], ["output"])], "twice",
        [value("input", 1, ["batch", 3])], [value("output", 1, ["batch", 3])],
    )  # fmt: skip
    files = tmp_path / "compiled"
    files.mkdir()
    model = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)
    onnx.save(model, files / "model.onnx")
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(files)
    save_file({"input": X}, str(tmp_path / "samples.safetensors"))
    shutil.copyfile(databases / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal")
    tracker.open("parent", {})
    tracker.child("candidate", "candidate", {})
    sha256 = tree_digest(digests_in(files))
    tensor = TensorFact(shape=(3,), dtype="float32")
    tracker.model(
        ModelEntry(
            ref="candidate",
            name="twice",
            folder=str(files),
            target="onnxruntime-cpu",
            sha256=sha256,
            options={"threads": 1},
            inputs={"input": tensor},
            output=tensor,
            example=str(tmp_path / "samples.safetensors"),
            requirements=tuple(requirements_of("onnxruntime")),
            params={},
            tags={names.SHA256: sha256, names.CANDIDATE: "candidate"},
        )
    )
    assert tracker.flush(60)
    model_id = tracker.model_id("candidate")
    assert model_id is not None, tracker.problems
    assert tracker.close(RunStatus.FINISHED)
    mlflow.set_tracking_uri(uri)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(tmp_path)))


def test_a_logged_model_carries_it_and_asks_for_it(logged: Path) -> None:
    (wheel,) = (logged / "code").iterdir()
    asked = (logged / "requirements.txt").read_text().splitlines()
    assert f"code/{wheel.name}" in asked
    assert f"onnxruntime=={version('onnxruntime')}" in asked
    assert not [line for line in asked if line.startswith(("prefect-hone", "torch", "ray"))]
    flavor = mlflow.models.Model.load(str(logged)).flavors["python_function"]
    assert flavor["loader_module"] == "prefect_hone.runtimes.served_model"
    answer = mlflow.pyfunc.load_model(str(logged)).predict(X)
    assert np.array_equal(answer, 2 * X)


@pytest.mark.nightly
def test_its_own_requirements_are_enough(
    logged: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In a fresh environment of nothing else; alone, and through MLflow; in 400 MB."""
    tmp_path = tmp_path_factory.mktemp("served")  # not in the model's folder
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = str(home / "bin" / "python")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    started = time.monotonic()
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run(
        [*pip, "install", "--quiet", "-r", "requirements.txt"], check=True, cwd=logged, env=clean
    )
    assert time.monotonic() - started < 900
    subprocess.run([*pip, "check"], check=True, env=clean)
    assert sum(p.lstat().st_size for p in home.rglob("*")) < 400e6
    np.save(tmp_path / "x.npy", X)
    there = (
        "import importlib.util, numpy as np, prefect_hone\n"
        "assert getattr(prefect_hone, '__file__', None) is None, 'Hone itself'\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r})\n"
        "{open}\n"
        "assert np.array_equal(model.predict(x), 2 * x)\n"
        "heavy = ('torch', 'ray', 'prefect', 'prefect_hone.recipe', 'prefect_hone.tasks')\n"
        "assert not [m for m in heavy if importlib.util.find_spec(m)]\n"
    )
    alone = "from prefect_hone.runtimes.served_model import open_model\nmodel = open_model({!r})"
    through = "import mlflow.pyfunc\nmodel = mlflow.pyfunc.load_model({!r})"
    for opened in (alone.format(str(logged)), through.format(str(logged))):
        code = there.replace("{open}", opened)
        subprocess.run([python, "-c", code], check=True, cwd=tmp_path, env=clean)
