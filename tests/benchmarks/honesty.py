"""Is the benchmark honest? The same artifact twice, one that is a twentieth slower, and the same
while other processes keep every core busy.

    python tests/benchmarks/honesty.py [TRIES] [same] [slower] [busy]

The interval of an artifact against itself must hold 1.0; the interval against the slowed one must
lie above 1.0. Both in at least 95 % of the tries, on a quiet machine. They are timed as the best few of a
run are before one wins, with further launches while they can't be compared. Beside other work the slower
one must never be told to be faster, and that the machine was busy must be told each time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from prefect_hone.recipe.benchmark import Benchmark
from prefect_hone.runtimes.compiled_artifact import CompiledArtifact
from prefect_hone.runtimes.onnxruntime_runtime import NAME, OnnxRuntimeSettings
from prefect_hone.tasks.benchmark.session import Entrant, run_session
from prefect_hone.tasks.benchmark.settling import until_settled
from prefect_hone.tasks.benchmark.statistics import ratio, round_medians

HERE = Path(__file__).parent
LOADER = "slowed:load"


def make_artifact(folder: Path, size: int = 32) -> Path:
    """The digits model in fp32 as ONNX Runtime loads it, for pictures of so many pixels."""
    from prefect_hone.recipe.examples.digits.digits_model import small_resnet

    program = torch.onnx.export(
        small_resnet().eval(), (torch.zeros(2, 1, size, size),), dynamo=True, verbose=False,
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
    usual = Benchmark()
    names = [entrant.name for entrant in entrants]
    until = until_settled(names, [1], usual.launches, usual.most_launches)
    found = run_session(entrants, {1: batches}, seconds, usual.launches, until=until)
    calls = found.calls
    if told is not None:
        told.append(found.others.told() is not None)
    copy, original = (
        [round_medians(launch) for launch in calls[name][1]] for name in ("copy", "original")
    )
    return ratio(copy, original)


@dataclass
class Part:
    """What was found in the tries of a part.

    Attributes:
        ratios: How many times faster the original is than its copy, with the 95 % interval.
        loud: Of each try, whether it was told that the machine was busy.
        loads: Load average of the machine after each.
    """

    ratios: list[tuple[float, float, float]] = field(default_factory=list)
    loud: list[bool] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def run(self, artifact: Path, slower: float, tries: int) -> None:
        for _ in range(tries):
            self.ratios.append(compare(artifact, slower, 2.0, self.loud))
            self.loads.append(os.getloadavg()[0])
            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)

    def print(self, name: str) -> None:
        values = [value for value, _, _ in self.ratios]
        widths = [high - low for _, low, high in self.ratios]
        print(
            f"{name:24} ratio median {np.median(values):.3f} "
            f"[{min(values):.3f}, {max(values):.3f}], width of the interval "
            f"{np.median(widths):.3f}; busy was told in {sum(self.loud)}, load average "
            f"{np.median(self.loads):.1f}",
            flush=True,
        )


def main(tries: int, parts: Sequence[str]) -> int:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    enough, honest = 0.95 * tries - 1e-9, True
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(Path(folder))
        if "same" in parts:
            same = Part()
            same.run(artifact, 0.0, tries)
            same.print("the same artifact twice")
            held = sum(low <= 1 <= high for _, low, high in same.ratios)
            print(f"interval holds 1.0 for the same artifact: {held} of {tries}")
            honest &= held >= enough
        if "slower" in parts:
            slow = Part()
            slow.run(artifact, 0.05, tries)
            slow.print("a twentieth slower")
            told = sum(low > 1 for _, low, _ in slow.ratios)
            print(f"a twentieth slower is told apart:         {told} of {tries}")
            honest &= told >= enough
        if "busy" in parts:
            beside = Part()
            with busy():
                beside.run(artifact, 0.05, tries)
            beside.print("a twentieth, busy cores")
            wrong = sum(high < 1 for _, _, high in beside.ratios)
            print(f"beside other work, the slower one won:    {wrong} of {tries}")
            print(f"and that the machine was busy was told:   {sum(beside.loud)} of {tries}")
            honest &= wrong == 0 and all(beside.loud)
    return 0 if honest else 1


PARTS = ("same", "slower", "busy")

if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    named = [word for word in sys.argv[1:] if word in PARTS]
    sys.exit(main(numbers[0] if numbers else 20, named or PARTS))
