"""Does a run on a team's servers survive that one of them goes away?

    python tests/benchmarks/outages.py [postgres|mlflow|prefect|ray|all|eight ...]

On a local stack of its own (`hone stack up`), for each outage, a run starts from a deployment, and in
the middle of its training

- `postgres`: PostgreSQL is stopped for 20 s;
- `mlflow`: MLflow's server is killed, and started again after 10 s;
- `prefect`: Prefect's server is restarted;
- `ray`: the Ray node that trains is killed, and started again after the run;
- `all`: each of these, one after the other, during one training;
- `eight`: nothing goes away, but 8 runs go on at once, two for each of 4 registered models.

Each run must complete. Then it counts what was lost or doubled (steps, points of the loss curve, runs,
versions, entries of the ledger), what is left unfinished in Prefect, MLflow or the journal, servers
that ended although nobody stopped them, and measurements that overlapped. Each must be 0.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
from prefect_hone.flows.operate.stack import process
from stack_place import EPOCHS, StackPlace

LONG = 160  # epochs of a training that outlives all outages, of about 100 s
_KILL_A_NODE = ("ray", "all")


def postgres(place: StackPlace) -> str:
    place.stop("postgres", signal.SIGINT)
    time.sleep(20)
    return f"away {20 + place.start('postgres'):.0f} s"


def mlflow(place: StackPlace) -> str:
    place.stop("mlflow", signal.SIGKILL)
    time.sleep(10)
    return f"away {10 + place.start('mlflow'):.0f} s"


def prefect(place: StackPlace) -> str:
    place.stop("prefect", signal.SIGTERM)
    return f"away {place.start('prefect'):.0f} s"


def ray(place: StackPlace) -> str:
    """Kill the node on which the training works."""
    for name in ("ray-node-1", "ray-node-2"):
        node = process.find(place.stack, name)
        assert node is not None
        if any("ray::_Worker" in _words(p) for p in node.children(recursive=True)):
            place.stop(name, signal.SIGKILL)
            return f"{name} killed"
    sys.exit("no node trains")


def each_of_them(place: StackPlace) -> str:
    """All outages, each while the training goes on."""
    done = []
    for outage in (postgres, mlflow, prefect, ray):
        done.append(outage(place))
        time.sleep(5)
    return ", ".join(done)


def _words(one: psutil.Process) -> str:
    try:
        return " ".join(one.cmdline())
    except psutil.Error:
        return ""


OUTAGES: dict[str, Callable[[StackPlace], str]] = {
    "postgres": postgres, "mlflow": mlflow, "prefect": prefect, "ray": ray, "all": each_of_them,
}  # fmt: skip


def broken(place: StackPlace, name: str, number: int) -> tuple[str, list[str]]:
    """One outage: what was done, and all that is wrong after it."""
    began, after = time.monotonic(), len(place.log())
    model = f"wine-{name}"
    run = place.run(number, model, LONG if name == "all" else EPOCHS)
    place.wait_for("epoch 2/", after)
    done = OUTAGES[name](place)
    wrong = []
    state = place.ended(run)
    if state["type"] != "COMPLETED":
        wrong.append(f"the run ended as {state['type']}: {state['message']}")
    elif name in _KILL_A_NODE and "resuming after" not in place.log()[after:]:
        wrong.append("the training began again")
    dead = place.dead()
    if name in _KILL_A_NODE:
        (node,) = dead or [""]
        dead = [d for d in dead if not d.startswith("ray-node")]
        place.start(node)
    wrong += [f"{d} ended" for d in dead]
    wrong += [*place.settled(), *place.wrong(run), *place.registry_wrong(model, 1)]
    return f"{done}; the run took {time.monotonic() - began:.0f} s", wrong


def eight(place: StackPlace) -> tuple[str, list[str]]:
    began = time.monotonic()
    place.timings.unlink(missing_ok=True)
    models = [f"wine-of-two-{i % 4}" for i in range(8)]
    runs = [place.run(100 + i, model) for i, model in enumerate(models)]
    wrong = []
    for run in runs:
        state = place.ended(run, 2400)
        if state["type"] != "COMPLETED":
            wrong.append(f"run {run.seed} ended as {state['type']}: {state['message']}")
    took = time.monotonic() - began
    wrong += [f"{dead} ended" for dead in place.dead()]
    wrong += place.settled()
    for run in runs:
        wrong += [f"run {run.seed}: {what}" for what in place.wrong(run)]
    for model in sorted(set(models)):
        wrong += place.registry_wrong(model, 2)
    held = place.measurements()
    overlaps = [(one, two) for one, two in pairwise(held) if two[0] < one[1]]
    wrong += [f"measurements overlap: {overlap}" for overlap in overlaps]
    if len(held) < 16:  # 8 sessions of 2 launches, and more where two can't be told apart
        wrong.append(f"only {len(held)} measurements were recorded, not 16")
    return f"{len(held)} measured intervals; all took {took:.0f} s", wrong


def main() -> None:
    asked = sys.argv[1:] or [*OUTAGES, "eight"]
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    place = StackPlace(folder)
    failed, finished = 0, False
    print("| | | wrong |\n| --- | --- | --- |")
    try:
        place.up()
        for number, name in enumerate(asked):
            done, wrong = eight(place) if name == "eight" else broken(place, name, number)
            failed += len(wrong)
            print(f"| {name} | {done} | {'; '.join(wrong) or '0'} |", flush=True)
        finished = True
    finally:
        if failed or not finished:  # by an error of its own
            kept = Path(tempfile.mkdtemp(prefix="outages-logs-"))
            shutil.copytree(place.stack.logs, kept, dirs_exist_ok=True)
            print(f"logs: {kept}")
        place.down()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
