"""What the proofs add to a cold `hone run digits`: seconds, and processor time of all its processes.

    python tests/benchmarks/proofs_cost.py [RUNS]

Runs with everything on and with everything off that a recipe can turn off, one after the other. Other
work on the machine makes seconds mean little; processor time, too, is more where others share the cores.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict

import psutil
from run_time import HONE

OFF = (
    "proofs.robustness=false", "proofs.explanation=false", "proofs.layer_parity=false",
    "proofs.flips=false", "proofs.groups=false", "benchmark.confirm=false",
)  # fmt: skip
_SUBREAPER = 36  # of prctl(2): what a run leaves behind becomes a child of this process
_POLL = 0.1  # s


class Watch(threading.Thread):
    """Adds up the processor time of all processes below this one; what a process takes in its last
    tenth of a second is missed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended = threading.Event()
        self._taken: dict[tuple[int, float], float] = {}

    def run(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(_POLL):
            for process in me.children(recursive=True):
                try:
                    times = process.cpu_times()
                    key = process.pid, process.create_time()
                except psutil.Error:
                    continue
                self._taken[key] = times.user + times.system

    def end(self) -> float:
        """Seconds of processor time."""
        self._ended.set()
        self.join()
        return sum(self._taken.values())


def cold(settings: tuple[str, ...]) -> tuple[float, float, dict[str, float]]:
    """A cold run: seconds, processor time (s), and seconds of each step."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "HONE_HOME": f"{folder}/home", "PREFECT_HOME": f"{folder}/prefect",
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }  # fmt: skip
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "HONE_STORE"):
            environment.pop(name, None)
        options = [word for setting in settings for word in ("--set", setting)]
        watch = Watch()
        watch.start()
        began = time.perf_counter()
        done = subprocess.run(
            [HONE, "run", "digits", "--json", *options],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        took, processor = time.perf_counter() - began, watch.end()
        if done.returncode:
            sys.exit(f"the run failed\n{done.stdout}\n{done.stderr}")
        time.sleep(6)  # its Prefect server ends by itself
        return took, processor, json.loads(done.stdout)["seconds"]


def main(runs: int) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    found: dict[str, list[tuple[float, float]]] = {"on": [], "off": []}
    steps: dict[str, dict[str, float]] = {"on": defaultdict(float), "off": defaultdict(float)}
    for _ in range(runs):
        for name, settings in (("off", OFF), ("on", ())):
            took, processor, seconds = cold(settings)
            found[name].append((took, processor))
            for label, value in seconds.items():
                kind = label if label.startswith("benchmark") else label.partition(" ")[0]
                steps[name][kind] += value / runs
            print(f"{name:4} {took:6.1f} s, processor {processor:6.1f} s, load {os.getloadavg()[0]:.1f}",
                  flush=True)  # fmt: skip
    added = [(a - b, c - d) for (a, c), (b, d) in zip(found["on"], found["off"], strict=True)]
    for index, name in enumerate(("seconds", "processor time (s)")):
        values = [pair[index] for pair in added]
        middle = statistics.median(values)
        print(
            f"added, {name}: {middle:.1f} [{min(values):.1f}, {max(values):.1f}] (wanted: at most 15 s)"
        )
    print("\nsteps, all of a kind together (some run side by side): off, on (s)")
    for kind, value in steps["on"].items():
        print(f"  {kind:20} {steps['off'].get(kind, 0.0):7.1f} {value:7.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
