"""Benchmark: all candidates of a run against each other (`session.py`), as a step.

A lock keeps two measurements on one machine apart.
"""

from __future__ import annotations

import numpy as np

from ...ray_workers.machine_lock import alone
from ...ray_workers.model.axes import read_batches
from ...ray_workers.model.onnx_files import load_inputs
from ...ray_workers.runtime_process import interpreter_for
from ...ray_workers.workspace import Result, Workspace
from ...runtimes.home import hone_home
from ...runtimes.predict import Arrays
from ..specs.benchmark import (
    BASELINE,
    BenchmarkFacts,
    BenchmarkSpec,
    ColdStart,
    Failure,
    Timing,
)
from .scenarios import Scenarios
from .session import Calls, Entrant, Until, run_session
from .settling import until_settled
from .statistics import latency, ratio, round_medians


def benchmark(work: Workspace[BenchmarkSpec]) -> Result:
    """Time the candidates against the baseline.

    Inputs: `weights`, `samples` (real inputs), each candidate under its name, and today's champion
    as `champion` if the recipe compares with it.

    Raises:
        HoneError: The baseline itself can't run. A candidate that fails is named in the facts.
    """
    spec = work.spec
    samples = load_inputs(work.inputs["samples"])
    model = {"model": spec.model.model_dump(mode="json")}
    eager = work.loader_options(spec.threads, model)
    entrants = []
    if spec.baseline is not None:
        entrants.append(Entrant(BASELINE, spec.baseline, work.inputs["weights"], eager))
    for entry in (*spec.candidates, *([spec.champion] if spec.champion else [])):
        folder = work.inputs[entry.name]
        python = interpreter_for(entry.environment)
        options = work.loader_options(spec.threads, entry.options)
        entrants.append(Entrant(entry.name, entry.loader, folder, options, python))

    def progress(share: float) -> None:
        work.progress(int(100 * share), 100)

    folder = work.inputs["samples"]
    batches = {
        size: read_batches(folder, size) or batches_of(samples, size) for size in spec.batch_sizes
    }
    with alone(work.note, hone_home()):
        timings = run_session(
            entrants,
            batches,
            spec.seconds,
            spec.launches,
            progress,
            cold=spec.session == 1,
            scenarios=_scenarios(spec, batches),
            until=_until(spec),
        )
    if BASELINE in timings.failed:
        raise timings.failed[BASELINE]
    beside = timings.calls.get(BASELINE, {})
    return Result(
        facts=BenchmarkFacts(
            measured={
                name: {
                    str(size): timing(
                        beside.get(size), launches, size, timings.joules[name].get(size)
                    )
                    for size, launches in by_size.items()
                }
                for name, by_size in timings.calls.items()
            },
            memory=timings.memory,
            gpu_memory=timings.gpu_memory,
            cold={
                name: ColdStart(load_s=load, first_answer_s=first)
                for name, (load, first) in timings.cold.items()
            },
            scenarios=timings.scenarios,
            failed={n: Failure(**e.to_dict()) for n, e in timings.failed.items()},
            processor=spec.processor,
            others=timings.others,
        ),
        notes=[told] if (told := timings.others.told()) else [],
    )


def _until(spec: BenchmarkSpec) -> Until | None:
    """When the session ends that measures the best few again."""
    if spec.most_launches is None or spec.scenarios:
        return None
    names = [entry.name for entry in spec.candidates]
    return until_settled(names, spec.batch_sizes, spec.launches, spec.most_launches)


def _scenarios(spec: BenchmarkSpec, batches: dict[int, list[Arrays]]) -> Scenarios | None:
    if not spec.scenarios:
        return None
    return Scenarios(spec.scenarios, batches, spec.offline_batch, spec.seconds, spec.launches)


def batches_of(samples: Arrays, size: int) -> list[Arrays]:
    """Batches of one size of real inputs, repeated if there are too few."""
    count = len(next(iter(samples.values())))
    starts = range(0, max(1, count - size + 1), size) if size <= count else [0]
    rows = [(np.arange(size) + start) % count for start in starts]
    return [
        {name: np.ascontiguousarray(value[chosen]) for name, value in samples.items()}
        for chosen in rows
    ]


def timing(
    baseline: Calls | None, launches: Calls, size: int, joules: float | None = None
) -> Timing:
    """Statistics of what was timed at a batch size.

    Args:
        baseline: Durations of calls (s) of what it is compared with, in launches of rounds; None if
            it is compared with nothing.
        launches: Durations of its own calls (s), of the same rounds.
        size: The batch size.
        joules: Energy that the machine took for a call (J), if it is known.
    """
    medians = [round_medians(rounds) for rounds in launches]
    value, low, high = None, None, None
    if baseline is not None:
        value, low, high = ratio([round_medians(rounds) for rounds in baseline], medians)
    return Timing(
        **latency([r for rounds in launches for r in rounds], size),
        ratio=value,
        ratio_low=low,
        ratio_high=high,
        joules_per_sample=None if joules is None else joules / size,
        rounds=medians,
    )
