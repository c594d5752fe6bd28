"""Is the benchmark honest? The same artifact twice, one that is a tenth slower, and one that is a
twentieth slower while other processes keep every core busy.

    python tests/benchmarks/honesty.py [TRIES]

The interval of an artifact against itself must hold 1.0; the interval against the slowed one must
lie above 1.0. Both in at least 18 of 20 tries. Beside other work the slower one must never be told
to be faster, and that the machine was busy must be told each time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.onnxruntime_runtime import NAME, OnnxRuntimeSettings
from prefect_hone.tasks.benchmark.session import Entrant, run_session
from prefect_hone.tasks.benchmark.statistics import ratio, round_medians

HERE = Path(__file__).parent
LOADER = "slowed:load"


def make_artifact(folder: Path) -> Path:
    """The digits model in fp32 as ONNX Runtime loads it."""
    from prefect_hone.recipe.examples.digits.digits_model import small_resnet

    program = torch.onnx.export(
        small_resnet().eval(), (torch.zeros(2, 1, 32, 32),), dynamo=True, verbose=False,
        input_names=["input"], output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    program.save(str(folder / "model.onnx"))
    settings = asdict(OnnxRuntimeSettings([("CPUExecutionProvider", {})]))
    CompiledArtifact(runtime=NAME, settings=settings).write(folder)
    return folder


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A context in which a process for each core computes something else."""
    cores = len(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def compare(
    artifact: Path, slower: float, seconds: float, told: list[bool] | None = None
) -> tuple[float, float, float]:
    """How many times faster the original is than a copy that is slower by a share.

    Args:
        artifact: The original.
        slower: The share.
        seconds: Of each.
        told: Whether it was told that the machine was busy is added to it.
    """
    rng = np.random.default_rng(0)
    batches = [{"input": rng.normal(size=(1, 1, 32, 32)).astype(np.float32)} for _ in range(8)]
    entrants = [
        Entrant("original", LOADER, artifact, {"threads": 1, "slower": 0.0}),
        Entrant("copy", LOADER, artifact, {"threads": 1, "slower": slower}),
    ]
    found = run_session(entrants, {1: batches}, seconds)
    calls = found.calls
    if told is not None:
        told.append(found.others.told() is not None)
    copy, original = (
        [round_medians(launch) for launch in calls[name][1]] for name in ("copy", "original")
    )
    return ratio(copy, original)


def main(tries: int) -> int:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(Path(folder))
        same = [compare(artifact, 0.0, 2.0) for _ in range(tries)]
        slow = [compare(artifact, 0.1, 2.0) for _ in range(tries)]
        loud: list[bool] = []
        with busy():
            beside = [compare(artifact, 0.05, 2.0, loud) for _ in range(tries)]
    held = sum(low <= 1 <= high for _, low, high in same)
    told = sum(low > 1 for _, low, _ in slow)
    wrong = sum(high < 1 for _, _, high in beside)
    for name, found in (
        ("the same artifact twice", same),
        ("a tenth slower", slow),
        ("a twentieth, busy cores", beside),
    ):
        values = [value for value, _, _ in found]
        widths = [high - low for _, low, high in found]
        print(
            f"{name:24} ratio median {np.median(values):.3f} "
            f"[{min(values):.3f}, {max(values):.3f}], width of the interval {np.median(widths):.3f}"
        )
    print(f"interval holds 1.0 for the same artifact: {held} of {tries}")
    print(f"a tenth slower is told apart:             {told} of {tries}")
    print(f"beside other work, the slower one won:    {wrong} of {tries}")
    print(f"and that the machine was busy was told:   {sum(loud)} of {tries}")
    enough = 0.9 * tries
    honest = held >= enough and told >= enough and not wrong and all(loud)
    return 0 if honest else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
