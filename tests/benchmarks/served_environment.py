"""A champion's environment, and the time to its first answer, beside `mlflow.onnx`'s own loader.

    python tests/benchmarks/served_environment.py [LAUNCHES]

Logs one ONNX graph (a perceptron, 7 MB) as Hone does, with its proof, and by `mlflow.onnx.save_model`;
makes a fresh environment from the requirements of each and nothing else (with uv, from the package
index); then starts processes in turns. Asked of a champion on ONNX Runtime: at most 400 MB, and at
most 1.5 s from the start of the process to the first answer. The processor's time is printed too: it
says what a busy machine would have taken if it were idle.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from prefect_hone.runtimes.circumstances import circumstances
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.digest import digests_in, tree_digest
from prefect_hone.runtimes.onnxruntime_runtime import OnnxRuntimeSettings, load
from prefect_hone.runtimes.opening import runtime
from prefect_hone.runtimes.proof import Proof
from prefect_hone.tasks.specs.check import TensorFact
from prefect_hone.tasks.tracking.entries import ModelEntry
from prefect_hone.tasks.tracking.model_folder import write_model
from prefect_hone.tasks.tracking.runtime_wheel import requirements_of
from safetensors.numpy import save_file

SIZES = (784, 1280, 600, 10)
X = np.random.default_rng(0).random((8, SIZES[0]), np.float32)
THROUGH_MLFLOW = (
    "import numpy as np, mlflow.pyfunc\n"
    "model = mlflow.pyfunc.load_model({model!r})\n"
    "model.predict(np.load({x!r}))\n"
)
ALONE = (
    "import numpy as np\n"
    "from prefect_hone.runtimes.served_model import open_model\n"
    "open_model({model!r}).predict(np.load({x!r}))\n"
)


def graph() -> onnx.ModelProto:
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    drawn, nodes, weights, last = np.random.default_rng(1), [], [], "input"
    for index, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        values = drawn.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(values, f"w{index}"))
        nodes.append(make_node("MatMul", [last, f"w{index}"], [f"m{index}"]))
        last = f"r{index}" if index < len(SIZES) - 2 else "output"
        nodes.append(make_node("Relu" if last != "output" else "Identity", [f"m{index}"], [last]))
    value = make_tensor_value_info
    made = make_graph(
        nodes, "perceptron", [value("input", 1, ["batch", SIZES[0]])],
        [value("output", 1, ["batch", SIZES[-1]])], weights,
    )  # fmt: skip
    return make_model(made, opset_imports=[make_opsetid("", 20)], ir_version=10)


def hones(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a run of Hone logs it."""
    files = folder / "artifact"
    files.mkdir()
    onnx.save(model, files / "model.onnx")
    settings = OnnxRuntimeSettings([("CPUExecutionProvider", {})])
    CompiledArtifact("onnxruntime", settings=asdict(settings)).write(files)
    here = circumstances(runtime("onnxruntime"), 1)
    outputs = load(files, {"threads": 1})({"input": X})
    Proof.of({"input": X}, outputs, 120.0, here).write(folder / "proof", None)
    save_file({"input": X}, str(folder / "samples.safetensors"))
    entry = ModelEntry(
        ref="fp32@onnxruntime-cpu", name="perceptron", folder=str(files), target="onnxruntime-cpu",
        sha256=tree_digest(digests_in(files)), options={"threads": 1},
        inputs={"input": TensorFact(shape=SIZES[:1], dtype="float32")},
        output=TensorFact(shape=SIZES[-1:], dtype="float32"),
        example=str(folder / "samples.safetensors"),
        requirements=tuple(requirements_of("onnxruntime")), params={}, tags={},
        proof=str(folder / "proof"),
    )  # fmt: skip
    (folder / "scratch").mkdir()
    write_model(entry, folder / "hone", folder / "scratch")
    return folder / "hone"


def mlflows(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as MLflow's own flavor saves it."""
    import mlflow

    mlflow.onnx.save_model(model, str(folder / "mlflow"))
    return folder / "mlflow"


def environment(model: Path, folder: Path) -> tuple[Path, float, float]:
    """A fresh environment from a model's requirements; its Python, MB, and the seconds it took."""
    started = time.perf_counter()
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "--link-mode", "copy", "--python",
         str(folder / "bin" / "python"), "-r", "requirements.txt"],
        check=True, cwd=model,
    )  # fmt: skip
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return folder / "bin" / "python", size / 1e6, time.perf_counter() - started


def first_answer(python: Path, code: str, folder: Path) -> tuple[float, float]:
    """Seconds from the start of a process to its first answer, and of the processor's time."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([str(python), "-c", code], check=True, cwd=folder, env=clean)
    took = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(launches: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, x = graph(), str(folder / "x.npy")
        np.save(x, X[:1])
        ways = {}
        for name, made in (("Hone", hones(model, folder)), ("mlflow.onnx", mlflows(model, folder))):
            python, size, took = environment(made, folder / f"environment-{name}")
            print(f"{name:24} {size:6.0f} MB of environment, made in {took:.0f} s")
            ways[f"{name}, by MLflow"] = (python, THROUGH_MLFLOW.format(model=str(made), x=x))
            if name == "Hone":
                ways["Hone, without MLflow"] = (python, ALONE.format(model=str(made), x=x))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for python, code in ways.values():  # Python compiles what it imports once
            first_answer(python, code, folder)
        for _ in range(launches):
            for name, (python, code) in ways.items():
                found[name].append(first_answer(python, code, folder))
        print(f"\nseconds to the first answer, {launches} launches each")
        for name, times in found.items():
            wall, used = zip(*times, strict=True)
            print(
                f"{name:24} median {statistics.median(wall):5.2f}, least {min(wall):5.2f}; "
                f"processor {statistics.median(used):5.2f}"
            )
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
