"""How long `hone` takes, and where the time of a cold run goes.

python tests/benchmarks/run_time.py [RUNS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HONE = str(Path(sys.executable).parent / "hone")
PARTS = {
    "import torch": "import torch",
    "import ray, ray.train": "import ray.train",
    "import prefect": "from prefect import flow",
    "import prefect.server": "import prefect.server.api.server",
    "import mlflow": "import mlflow",
    "ray.init()": "import ray; ray.init(log_to_driver=False, include_dashboard=False)",
}
#: A cluster of Hone's, as a run starts it.
RAY = """
from prefect_hone.ray_workers.cluster import Cluster
cluster = Cluster()
cluster.start()
cluster.close()
"""
#: A recipe that `check` refuses: a sample of the test split has NaN.
REFUSED = {
    "refused.py": """
import torch
from prefect_hone import Data
from torch.utils.data import TensorDataset

def net():
    return torch.nn.Linear(8, 3)

def rows():
    x, y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    x[60, 2] = float("nan")
    return Data(train=TensorDataset(x[:40], y[:40]), test=TensorDataset(x[40:], y[40:]))
""",
    "recipe.yaml": """
{name: refused, code: ., model: {factory: "refused:net"}, data: {factory: "refused:rows"},
 train: {epochs: 1, batch_size: 8}, variants: [{name: fp32}], targets: [onnxruntime-cpu],
 registry: {model: refused}}
""",
}


def timed(command: list[str], folder: str, code: int = 0) -> tuple[float, str]:
    environment = {
        **os.environ, "HONE_HOME": f"{folder}/home", "PREFECT_HOME": f"{folder}/prefect",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }  # fmt: skip
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "HONE_STORE",
                 "PYTHONDONTWRITEBYTECODE"):  # fmt: skip
        environment.pop(name, None)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} failed\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def refused(runs: int) -> list[float]:
    """How long `check` takes to refuse beyond Ray's start (s), in a home that other runs used."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in REFUSED.items():
            (Path(folder) / name).write_text(text)
        for _ in range(runs + 1):
            alone, _ = timed([sys.executable, "-c", RAY], folder)
            whole, _ = timed([HONE, "run", f"{folder}/recipe.yaml"], folder, code=2)
            found.append(whole - alone)
    return found[1:]


def row(name: str, values: list[float], limit: str = "") -> None:
    middle = statistics.median(values)
    print(f"{name:28} {middle:7.2f} s  [{min(values):.2f}, {max(values):.2f}]  {limit}")


def main(runs: int) -> None:
    cold, warm, steps = [], [], {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            seconds, out = timed([HONE, "run", "digits", "--json"], folder)
            cold.append(seconds)
            for label, took in json.loads(out)["seconds"].items():
                steps.setdefault(label, []).append(took)
            warm += [timed([HONE, "run", "digits", "--json"], folder)[0] for _ in range(2)]
            plan = [timed([HONE, "plan", "digits"], folder)[0] for _ in range(5)]
            time.sleep(6)  # the run's Prefect server ends by itself
    with tempfile.TemporaryDirectory() as folder:
        called = [timed([HONE, "--help"], folder)[0] for _ in range(5)]
        parts = {
            name: [timed([sys.executable, "-c", code], folder)[0] for _ in range(3)]
            for name, code in PARTS.items()
        }
    row("refused, beyond Ray's start", refused(runs), "wanted 5")
    row("hone run digits, cold", cold, "at most 120, wanted 90")
    row("hone run digits, warm", warm, "at most 12, wanted 6")
    row("hone plan digits", plan, "at most 3")
    row("hone --help", called, "at most 0.7")
    print("\nsteps of a cold run (some run side by side)")
    for label, values in steps.items():
        row(f"  {label}", values)
    print("\nparts of the start, each in a process of its own")
    for name, values in parts.items():
        row(f"  {name}", values)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
