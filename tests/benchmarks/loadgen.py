"""Do MLPerf's LoadGen and Hone measure the same latency? The 90th percentile of a single stream.

    pip install -c constraints.txt mlcommons-loadgen
    python tests/benchmarks/loadgen.py [PAIRS]

One artifact (the digits model in ONNX Runtime, on larger pictures) is measured in pairs of fresh
processes, one after the other in alternating order: by Hone's benchmark, and by LoadGen in the
scenario SingleStream. The medians of the two must agree within 5 %. LoadGen is no dependency of Hone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 64  # pixels
SECONDS = 2.0
AGREE = 0.05
_P90 = re.compile(r"90(?:\.00)?(?:th)? percentile latency \(ns\)\s*:\s*(\d+)")


def inputs(count: int = 8) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    shape = (1, 1, SIZE, SIZE)
    return [{"input": rng.normal(size=shape).astype(np.float32)} for _ in range(count)]


def by_loadgen(artifact: Path, logs: Path) -> None:
    """Run LoadGen in this process; it writes its summary to a folder."""
    import mlperf_loadgen as lg
    from prefect_hone.runtimes.onnxruntime_runtime import load

    batches, predict = inputs(), load(artifact, {"threads": 1})
    for batch in batches:
        predict(batch)

    def answer(queries: list[Any]) -> None:
        for query in queries:
            predict(batches[query.index])
        lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0) for query in queries])

    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = int(1e3 * SECONDS), 64
    log = lg.LogSettings()
    log.log_output.outdir = str(logs)
    log.log_output.copy_summary_to_stdout = False
    log.enable_trace = False
    system = lg.ConstructSUT(answer, lambda: None)
    library = lg.ConstructQSL(len(batches), len(batches), lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(system, library, settings, log)
    lg.DestroyQSL(library)
    lg.DestroySUT(system)


def loadgens_p90(artifact: Path) -> float:
    """The 90th percentile in a fresh process (ms)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, __file__, "--loadgen", str(artifact), folder]
        subprocess.run(command, check=True, env=environment)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    found = _P90.search(summary)
    if found is None:
        raise SystemExit(f"LoadGen's summary has no 90th percentile:\n{summary}")
    return int(found[1]) / 1e6


def hones_p90(artifact: Path) -> tuple[float, bool]:
    """The 90th percentile in a fresh process (ms), and whether the machine was busy."""
    from prefect_hone.tasks.benchmark.benchmark import timing
    from prefect_hone.tasks.benchmark.session import Entrant, run_session

    loader = "prefect_hone.runtimes.onnxruntime_runtime:load"
    entrant = Entrant("artifact", loader, artifact, {"threads": 1})
    found = run_session([entrant], {1: inputs()}, SECONDS, launches=1)
    p90 = timing(None, found.calls["artifact"][1], 1).p90_ms
    if p90 is None:
        raise SystemExit("too few calls: the machine is too slow for this")
    return p90, found.others.told() is not None


def main(pairs: int) -> int:
    import torch
    from honesty import make_artifact

    torch.manual_seed(0)
    hone: list[float] = []
    loadgen: list[float] = []
    busy = 0
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(Path(folder), SIZE)
        for pair in range(pairs):
            for turn in ("hone", "loadgen") if pair % 2 == 0 else ("loadgen", "hone"):
                if turn == "hone":
                    p90, told = hones_p90(artifact)
                    hone.append(p90)
                    busy += told
                else:
                    loadgen.append(loadgens_p90(artifact))
            print(
                f"pair {pair + 1}: Hone {hone[-1]:.4f} ms, LoadGen {loadgen[-1]:.4f} ms", flush=True
            )
    ratios = [one / other for one, other in zip(loadgen, hone, strict=True)]
    low, high = np.percentile(ratios, [25, 75])
    ratio = float(np.median(loadgen) / np.median(hone))
    print(
        f"p90, median of {pairs}: Hone {np.median(hone):.4f} ms, LoadGen {np.median(loadgen):.4f} ms"
    )
    print(f"LoadGen's over Hone's: {ratio:.3f}; of pairs: median {np.median(ratios):.3f}, "
          f"half of them within [{low:.3f}, {high:.3f}]")  # fmt: skip
    print(f"Hone said that the machine was busy in {busy} of {pairs}")
    return 0 if abs(ratio - 1) <= AGREE else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loadgen"]:
        by_loadgen(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
