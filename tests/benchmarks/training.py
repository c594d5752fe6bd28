"""What training on a mesh costs, each as a ratio within one run.

    python tests/benchmarks/training.py [start|throughput|memory|checkpoint|teacher|faults|loading]

start       from `fit` to the first step and from the last step to the end: our actors and Ray Train
throughput  samples a second under our actors and Ray Train over those under torchrun
memory      parameters, gradients and optimizer of a worker with shard 4 over those of one process
checkpoint  how long saving stops training: asynchronous over synchronous
teacher     an epoch of distillation, teacher's outputs known over computed; the same final loss
loading     samples a second: slow samples over plain torch, others over a former commit
faults      ten kills at random moments: the same final loss, each step once
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")

from gang import together  # noqa: E402
from ray_training import EXAMPLE, charlm_job, cluster, train_project  # noqa: E402


def row(name: str, values: list[float], form: str = "8.2f", note: str = "") -> None:
    middle = statistics.median(values)
    spread = f"[{min(values):{form}}, {max(values):{form}}]".replace(" ", "")
    print(f"  {name:44} {middle:{form}}  {spread:20} {note}", flush=True)


def big_job(folder: Path, **train: Any) -> Any:
    """A character model of 1.8 M parameters, 16 steps."""
    job = charlm_job(folder, **{"epochs": 1, "batch_size": 32, "deterministic": False, **train})
    return job.model_copy(
        update={
            "model": job.model.model_copy(
                update={"args": {"channels": 192, "heads": 4, "layers": 4, "length": 64}}
            ),
            "data": job.data.model_copy(
                update={
                    "factory": f"{EXAMPLE}.charlm_data:charlm_data",
                    "args": {"length": 64, "characters": 40_000},
                }
            ),
        }
    )


def start(tries: int = 3) -> None:
    print("start-up and end of a fit, 2 workers (s)")
    found: dict[str, list[tuple[float, float]]] = {"actors": [], "ray-train": []}
    for _ in range(tries):
        with cluster(3), tempfile.TemporaryDirectory() as folder:  # cold: no worker is warm
            for launcher, times in found.items():
                job = charlm_job(Path(folder) / launcher, mesh={"data": 2}, launcher=launcher,
                                 epochs=1)  # fmt: skip
                began = time.perf_counter()
                training = train_project(job, Path(folder))
                training.wait_for(step=0)
                first = time.perf_counter()
                training.wait_for(text="epoch 1/1:")
                last = time.perf_counter()
                training.finish()
                times.append((first - began, time.perf_counter() - last))
    limits = {"actors": ("at most 8", "at most 2"), "ray-train": ("", "")}
    for launcher, times in found.items():
        row(f"{launcher}: fit to first step", [a for a, _ in times], note=limits[launcher][0])
        row(f"{launcher}: last epoch to end", [b for _, b in times], note=limits[launcher][1])
    row("first step, ray-train over actors",
        [b[0] / a[0] for a, b in zip(found["actors"], found["ray-train"], strict=True)])  # fmt: skip


def _speed(events: list[dict[str, Any]]) -> float:
    """Samples a second of the epochs after the first."""
    speeds = [e.value for e in events if getattr(e, "name", "") == "train/samples_per_s"]
    return statistics.median(speeds[1:])


def throughput(tries: int = 5) -> None:
    print("throughput of the loop, 2 data-parallel workers (samples/s, epochs after the first)")
    found: dict[str, list[float]] = {"torchrun": [], "actors": [], "ray-train": []}
    for _ in range(tries):
        for launcher, speeds in found.items():
            with tempfile.TemporaryDirectory() as folder:
                job = big_job(Path(folder) / "ck", epochs=4, mesh={"data": 2})
                if launcher == "torchrun":
                    speeds.append(_under_torchrun(job, Path(folder)))
                    continue
                job = job.model_copy(
                    update={"train": job.train.model_copy(update={"launcher": launcher})}
                )
                with cluster(2):
                    training = train_project(job, Path(folder))
                    speeds.append(_speed(training.finish()))
    for launcher, speeds in found.items():
        row(launcher, speeds, "8.0f")
    for launcher in ("actors", "ray-train"):
        ratios = [a / b for a, b in zip(found[launcher], found["torchrun"], strict=True)]
        row(f"{launcher} over torchrun", ratios, note="at least 0.97")


def _under_torchrun(job: Any, folder: Path) -> float:
    (folder / "job.json").write_text(job.model_dump_json())
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(HERE / "training.py"), "--loop", str(folder)],
        check=True, capture_output=True,
    )  # fmt: skip
    return _speed(json.loads((folder / "events.json").read_text()))


def _loop(folder: Path) -> None:
    """In a worker of torchrun."""
    import torch
    import torch.distributed as dist
    from gang import train

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    events = train(json.loads((folder / "job.json").read_text()))
    if dist.get_rank() == 0:
        (folder / "events.json").write_text(json.dumps(events))
    dist.destroy_process_group()


def _held(shard: int) -> int:
    """Bytes of parameters, gradients and optimizer state at a training's highest, by storage.

    Counted at every step after the optimizer's, over the tensors that are alive.
    """
    import gc

    import torch
    from prefect_hone.ray_workers.training.loop import train_loop
    from torch.distributed.tensor import DTensor

    highest = 0
    real = torch.optim.AdamW.step

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal highest
        result = real(self, *args, **kwargs)
        storages: dict[int, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                state = [v for v in self.state[parameter].values() if isinstance(v, torch.Tensor)]
                for tensor in (parameter, parameter.grad, *state):
                    if tensor is not None:
                        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
                        storage = local.untyped_storage()
                        storages[storage.data_ptr()] = storage.nbytes()
        gc.collect()
        highest = max(highest, sum(storages.values()))
        return result

    torch.optim.AdamW.step = counted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) if shard == 1 else Path(os.environ["HONE_BENCH_FOLDER"])
        train_loop(big_job(where, mesh={"shard": shard}), lambda _: None)
    return highest


def memory() -> None:
    print("parameters + gradients + optimizer state of a worker (MB), measured on live tensors")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HONE_BENCH_FOLDER"] = folder
        (alone,) = together(1, _held, 1)
        sharded = together(4, _held, 4)
    row("one process", [alone / 1e6])
    row("shard 4, each worker", [held / 1e6 for held in sharded])
    row("largest worker over one process", [max(sharded) / alone], note="at most 0.35")


def _stalls(asynchronous: bool, folder: str) -> list[float]:
    """How long each save of a training kept it from going on (s)."""
    from prefect_hone.ray_workers.training.checkpoints import Checkpoints
    from prefect_hone.ray_workers.training.loop import train_loop

    took: list[float] = []
    real = Checkpoints.save

    def timed(self: Any, *args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        real(self, *args, **kwargs)
        took.append(time.perf_counter() - began)

    Checkpoints.save = timed  # type: ignore[method-assign]
    job = big_job(
        Path(folder), epochs=2, mesh={"data": 2},
        checkpoint={"every_steps": 6, "asynchronous": asynchronous},
    )  # fmt: skip
    train_loop(job, lambda _: None)
    return took[1:]  # the first one makes the buffers


def checkpoint(tries: int = 3) -> None:
    print("how long a checkpoint stops training, 2 workers (ms)")
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(tries):
        for asynchronous, stalls in found.items():
            with tempfile.TemporaryDirectory() as folder:
                stalls += together(2, _stalls, asynchronous, folder)[0]
    row("synchronous", [1e3 * t for t in found[False]])
    row("asynchronous", [1e3 * t for t in found[True]])
    share = statistics.median(found[True]) / statistics.median(found[False])
    row("asynchronous over synchronous, medians", [share], note="at most 0.10")


def teacher(tries: int = 3) -> None:
    """A student of a quarter of the teacher's width, one process, epochs after the first."""
    from prefect_hone.ray_workers.training.loop import train_loop

    ratios, final = [], []
    where = {
        "kind": "distill", "factory": f"{EXAMPLE}.charlm_model:charlm",
        "args": {"channels": 192, "heads": 4, "layers": 4, "length": 64},
    }  # fmt: skip
    for _ in range(tries):
        seconds, losses = {}, {}
        for kept in (0, 1024):
            with tempfile.TemporaryDirectory() as folder:
                job = big_job(Path(folder), epochs=3, objective={**where, "cache_mb": kept})
                small = job.model.model_copy(
                    update={"args": {"channels": 48, "heads": 4, "layers": 2, "length": 64}}
                )
                events: list[Any] = []
                train_loop(job.model_copy(update={"model": small}), events.append)
            speeds = [e.value for e in events if getattr(e, "name", "") == "train/samples_per_s"]
            seconds[kept] = 1 / statistics.mean(speeds[1:])
            losses[kept] = [e.value for e in events if getattr(e, "name", "") == "train/loss"][-1]
        ratios.append(seconds[1024] / seconds[0])
        final.append(abs(losses[1024] - losses[0]))
    row("an epoch with the teacher's outputs known", ratios, note="of one that computes them")
    row("difference of the final loss", final, form=".1e")


def faults(kills: int = 10) -> None:
    print(f"{kills} kills at random moments of one training, deterministic, 2 workers")
    chance = random.Random(1)

    def job(folder: Path) -> Any:
        return charlm_job(folder, epochs=12, mesh={"data": 2}, max_failures=kills,
                          checkpoint={"every_steps": 3})  # fmt: skip

    with tempfile.TemporaryDirectory() as folder, cluster(2):
        quiet = train_project(job(Path(folder) / "quiet"), Path(folder) / "a")
        quiet.finish()
        expected = quiet.curve()
        training = train_project(job(Path(folder) / "killed"), Path(folder) / "b")
        for number in range(kills):
            training.wait_for(step=11 * number + chance.randrange(1, 11))
            workers = [
                p for p in psutil.Process().children(recursive=True)
                if "ray::_Worker.train" in " ".join(p.cmdline())
            ]  # fmt: skip
            os.kill(chance.choice(workers).pid, signal.SIGKILL)
            while sum("restarting" in note for note in training.notes()) <= number:
                time.sleep(0.02)
        training.finish()
        found = training.curve()
        last = max(expected)
        print(f"  kills {kills}, steps {len(found)} of {len(expected)}")
        print(f"  final loss {found[last]!r}, without kills {expected[last]!r}")
        print(f"  the same bits at every step: {found == expected}")


_ROWS = """
import time, torch
from prefect_hone import Data
from torch import nn
from torch.utils.data import Dataset

class Rows(Dataset):
    def __init__(self, count, seconds):
        self.x = torch.randn(count, 256, generator=torch.Generator().manual_seed(count))
        self.seconds = seconds

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        if self.seconds:
            time.sleep(self.seconds)
        return self.x[index], index % 10

def rows(count, seconds):
    made = [Rows(count, seconds), Rows(64, 0), Rows(65, 0)]
    return Data(train=made[0], validation=made[1], test=made[2])

def net():
    return nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
"""


def _fed_speed(folder: Path, seconds: float, workers: int, package: Path | None) -> float:
    """Samples a second of Hone's loop in one process, of the package at a path or of this one."""
    loading = {"loading": {"workers": workers}} if package is None else {}
    job = {
        "model": {"factory": "bench_rows:net"},
        "data": {"factory": "bench_rows:rows",
                 "args": {"count": 256 if seconds else 8192, "seconds": seconds}},
        "train": {"epochs": 4, "batch_size": 32, **loading},
        "metric": "accuracy", "higher_is_better": True, "allowed": {"modules": ["bench_rows"]},
        "checkpoints": str(folder / f"ck{time.monotonic_ns()}"),
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "PYTHONPATH": str(package)} if package else {**os.environ}
    subprocess.run(
        [sys.executable, "-c", _FED, str(folder)],
        check=True, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    speeds = json.loads((folder / "speeds.json").read_text())
    return statistics.median(speeds[1:])


#: In a process of its own, of whichever version is on the path.
_FED = """
import json, sys
from pathlib import Path
import torch
from prefect_hone.ray_workers.events import Metric
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.recipe.factories import use_code

folder = Path(sys.argv[1])
torch.set_num_threads(1)
use_code(folder)
speeds = []

def report(event):
    if isinstance(event, Metric) and event.name == "train/samples_per_s":
        speeds.append(event.value)

train_loop(TrainJob.model_validate_json((folder / "job.json").read_text()), report)
(folder / "speeds.json").write_text(json.dumps(speeds))
"""


def _plain_speed(folder: Path, seconds: float, workers: int) -> float:
    """Samples a second of a plain torch loop with a DataLoader, epochs after the first."""
    import torch
    from torch.utils.data import DataLoader

    sys.path.insert(0, str(folder))
    import bench_rows

    torch.set_num_threads(1)
    model, data = bench_rows.net(), bench_rows.rows(256, seconds)
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(data.train, 32, shuffle=True, num_workers=workers, persistent_workers=True)
    speeds = []
    for _ in range(4):
        began = time.perf_counter()
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        speeds.append(len(data.train) / (time.perf_counter() - began))
    return statistics.median(speeds[1:])


def loading(tries: int = 5, before: str = "b6dadba") -> None:
    """Samples that take 10 ms beside plain torch; that take nothing beside a former commit."""
    print("samples a second in one process, epochs after the first")
    slow, fast = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "bench_rows.py").write_text(_ROWS)
        package = folder / "before" / "prefect_hone"
        package.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", before], cwd=HERE.parents[1], check=True,
                                 capture_output=True)  # fmt: skip
        subprocess.run(["tar", "-x", "-C", str(package)], input=archive.stdout, check=True)
        for _ in range(tries):
            slow.append(_fed_speed(folder, 0.01, 2, None) / _plain_speed(folder, 0.01, 2))
            fast.append(_fed_speed(folder, 0, 0, None) / _fed_speed(folder, 0, 0, package.parent))
    row("10 ms a sample, 2 processes: over plain torch", slow, note="at least 0.90")
    row(f"nothing to read: over commit {before}", fast, note="at least 1")


BENCHMARKS = {
    "start": start, "throughput": throughput, "memory": memory, "checkpoint": checkpoint,
    "teacher": teacher, "faults": faults, "loading": loading,
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        _loop(Path(sys.argv[2]))
    else:
        for name in sys.argv[1:] or list(BENCHMARKS):
            BENCHMARKS[name]()
