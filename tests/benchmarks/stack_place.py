"""A local stack of its own for the benchmarks: started, broken, asked what is left, deleted."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import psutil
from prefect_hone.flows.operate.stack import process, services
from prefect_hone.flows.operate.stack.folder import StackFolder
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.ledger import Ledger
from prefect_hone.tasks.tracking.ledger_state import state_of

HERE = Path(__file__).parent
HONE = Path(sys.executable).with_name("hone")
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")
EPOCHS, STEPS_OF_AN_EPOCH = 8, 4
_SETTLING = 120.0  # s for what is still on its way to a server after the end of a run

#: The baseline, which is timed in a process of its own, writes down when it was called.
_TIMED = """

class Timed(Net):
    def __init__(self, log, **rest):
        super().__init__(**rest)
        self.log = log

    def forward(self, x):
        import sys, time
        began = time.monotonic()
        answer = super().forward(x)
        if not torch.compiler.is_compiling() and "runtimes.child" in " ".join(sys.orig_argv):
            with open(self.log, "a") as log:
                log.write(f"{os.getpid()} {began} {time.monotonic()}\\n")
        return answer


def timed(log, width=32):
    return Timed(log, width=width)
"""


@dataclass(frozen=True)
class Asked:
    """A run that was asked for: its flow run, its registered model, its seed and its epochs."""

    id: str
    model: str
    seed: int
    epochs: int


class StackPlace:
    """A stack, a project that its worker may run, and what the servers say of it.

    Args:
        folder: For all that it writes; a short path, because Ray's sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.timings = folder / "timings"
        shutil.copytree(
            HERE.parent / "project", self.project, ignore=shutil.ignore_patterns("__pycache__")
        )
        with (self.project / "wine_model.py").open("a") as code:
            code.write(_TIMED)
        foreign = ("PREFECT_", "MLFLOW_", "RAY_", "HONE_")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            "HONE_HOME": str(self.home),
            "HONE_ALLOWED_PATHS": str(self.project),
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        os.environ.update(self.environment)  # what is started here again has it, too
        self.stack = StackFolder(self.home / "stack")

    def up(self) -> None:
        """Start the whole stack."""
        self._hone("stack", "up", "--timeout", "900")
        self._use_mlflow()

    def up_only(self, *wanted: str) -> str:
        """Start only these services, in this order, and MLflow without users, whose passwords cost
        it more than all else; returns the URI of MLflow.
        """
        self.stack.prepare()
        for name in wanted:
            self.start(name, users=False)
        return self._use_mlflow()

    def _use_mlflow(self) -> str:
        client = services.client_environment(self.stack)
        os.environ.update({k: v for k, v in client.items() if k.startswith("MLFLOW_")})
        mlflow.set_tracking_uri(client["MLFLOW_TRACKING_URI"])
        return client["MLFLOW_TRACKING_URI"]

    def down(self) -> None:
        if self.stack.exists:
            self._hone("stack", "down", "--delete-data")

    def _hone(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(HONE), *arguments], env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"hone {' '.join(arguments)}:\n{done.stdout}{done.stderr}")

    # the services

    def stop(self, name: str, number: signal.Signals) -> None:
        """End a service; with SIGKILL, all of its processes at once."""
        found = process.find(self.stack, name)
        assert found is not None, name
        family = [found, *found.children(recursive=True)]
        for one in family if number is signal.SIGKILL else [found]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)
        _, left = psutil.wait_procs(family, timeout=30)
        process.end([p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])

    def start(self, name: str, users: bool = True) -> float:
        """Start a service again, as `hone stack up` does; how long it took to answer (s)."""
        began = time.monotonic()
        service = next(s for s in services.services(self.stack) if s.name == name)
        if not users and name == "mlflow":
            command = [w for w in service.command if w not in ("--app-name", "basic-auth")]
            service = replace(service, command=command, finish=lambda: None)
        service.before()
        process.start(service, self.stack)
        while not service.ready():
            if process.find(self.stack, name) is None:
                sys.exit(f"{name} ended while it started:\n{self.log(name)[-2000:]}")
            time.sleep(0.1)
        service.finish()
        return time.monotonic() - began

    def dead(self) -> list[str]:
        """Services that ended, though nobody stopped them."""
        return [
            s.name
            for s in services.services(self.stack)
            if process.find(self.stack, s.name) is None
        ]

    def log(self, name: str = "worker") -> str:
        return process.log_of(self.stack, name).read_text(errors="replace")

    # runs

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Of Prefect's API."""
        client = services.client_environment(self.stack)
        user = base64.b64encode(client["PREFECT_API_AUTH_STRING"].encode()).decode()
        request = urllib.request.Request(
            f"{client['PREFECT_API_URL']}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Basic {user}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def run(self, seed: int, model: str, epochs: int = EPOCHS) -> Asked:
        """Ask for a run, as the Prefect UI does."""
        overrides = [
            f"train.seed={seed}", f"train.epochs={epochs}", "data.args={delay: 0.03}",
            "model={factory: 'wine_model:timed', args: {log: '" + str(self.timings) + "'}}",
            "gates=[]", f"registry.model={model}",
        ]  # fmt: skip
        deployment = self.ask("/deployments/name/accelerate/hone")
        recipe = str(self.project / "recipe.yaml")
        made = self.ask(
            f"/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"recipe": recipe, "overrides": overrides},
             "state": {"type": "SCHEDULED"}},
        )  # fmt: skip
        return Asked(made["id"], model, seed, epochs)

    def wait_for(self, text: str, after: int, seconds: float = 900) -> None:
        """Until the worker's log says something, beyond its first `after` characters."""
        deadline = time.monotonic() + seconds
        while text not in self.log()[after:]:
            if time.monotonic() > deadline:
                sys.exit(f"the worker did not say '{text}':\n{self.log()[after:][-3000:]}")
            time.sleep(0.1)

    def ended(self, run: Asked, seconds: float = 900) -> dict[str, Any]:
        """The state in which a run ended; the last one that was seen, if it does not end."""
        deadline, state = time.monotonic() + seconds, {"type": "UNKNOWN", "message": ""}
        while time.monotonic() < deadline and state["type"] not in OVER:
            with contextlib.suppress(OSError):
                state = self.ask(f"/flow_runs/{run.id}")["state"]
            time.sleep(0.5)
        return state

    # what is left

    def wrong(self, run: Asked) -> Iterator[str]:
        """What is wrong of a run that has ended."""
        client = mlflow.MlflowClient()
        found = self.tracked(run)
        expected = Counter({"parent": 1, "train": 1, "fp32": 1, "int8": 1})
        have = Counter(found_name for found_name, _ in found)
        if have != expected:
            yield f"MLflow runs {dict(have)}"
        for name, one in found:
            if one.info.status != "FINISHED":
                yield f"MLflow run {name} is {one.info.status}"
            if name == "train":
                curve = client.get_metric_history(one.info.run_id, "train/loss")
                if sorted(p.step for p in curve) != list(range(run.epochs * STEPS_OF_AN_EPOCH)):
                    yield f"the curve has {len(curve)} points"
            if name == "parent":
                yield from self._steps(run, one.info.run_id)

    def _steps(self, run: Asked, parent: str) -> Iterator[str]:
        with contextlib.redirect_stderr(io.StringIO()):
            text = mlflow.artifacts.load_text(f"runs:/{parent}/steps.csv")
        labels = Counter(line.split(",")[1] for line in text.splitlines()[1:])
        if not labels or any(count > 1 for count in labels.values()):
            yield f"steps {dict(labels)}"
        tasks = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run.id]}}})
        told = Counter(t["name"] for t in tasks)
        if any(told[label] != 1 for label in labels):
            yield f"task runs {dict(told)}"

    def tracked(self, run: Asked) -> list[tuple[str, Any]]:
        """The MLflow runs of a flow run, by what they are of."""
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("wine")
        if experiment is None:
            return []
        where = [experiment.experiment_id]
        parents = client.search_runs(where, f"tags.`{names.FLOW_RUN}` = '{run.id}'")
        found: list[tuple[str, Any]] = []
        for parent in parents:
            found.append(("parent", parent))
            inside = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
            found += [(r.info.run_name.split("@")[0], r) for r in client.search_runs(where, inside)]
        return found

    def settled(self) -> list[str]:
        """What is left unfinished anywhere, once the servers had time to hear of the ends."""
        deadline = time.monotonic() + _SETTLING
        while (left := list(self._unfinished())) and time.monotonic() < deadline:
            time.sleep(1)
        return left

    def _unfinished(self) -> Iterator[str]:
        states = {"state": {"type": {"any_": list(UNFINISHED)}}}
        for kind in ("flow_runs", "task_runs"):
            for one in self.ask(f"/{kind}/filter", {kind: states}):
                yield f"Prefect: {kind} {one['name']} is {one['state_type']}"
        client = mlflow.MlflowClient()
        for experiment in client.search_experiments():
            for one in client.search_runs([experiment.experiment_id], "status = 'RUNNING'"):
                yield f"MLflow: run {one.info.run_name} is RUNNING"
        for path in sorted((self.home / "journal").glob("*")):
            if path.is_file() and path.stat().st_size:
                yield f"journal {path.name} has not been sent"

    def registry_wrong(self, model: str, runs: int) -> Iterator[str]:
        """What is wrong of a model that so many runs have promoted."""
        client = mlflow.MlflowClient()
        versions = client.search_model_versions(f"name = '{model}'")
        digests = Counter(v.tags.get(names.DIGEST) for v in versions)
        if len(versions) != runs or len(digests) != runs:
            yield f"{model} has {len(versions)} versions, {len(digests)} different, of {runs} runs"
        if not versions:
            return  # MLflow's answers about a model that is not there are refusals
        entries = Ledger(client, model).entries()
        state = state_of(entries)
        if state.open:
            yield f"the ledger of {model} has {len(state.open)} open intents"
        moves = [(e.record.before, e.record.after) for e in state.changes]
        if any(one[1] != two[0] for one, two in pairwise([(None, None), *moves])):
            yield f"the ledger of {model} is broken: {moves}"
        if len(moves) != runs:
            yield f"the ledger of {model} has {len(moves)} changes"
        held = client.get_model_version_by_alias(model, "champion")
        if str(held.version) != state.champion("champion"):
            yield f"{model}: the alias is at {held.version}, the ledger at {state.champion('champion')}"

    def measurements(self) -> list[tuple[float, float]]:
        """When the baseline was timed: an interval for each process that did."""
        calls: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in self.timings.read_text().splitlines():
            pid, began, ended = line.split()
            calls[pid].append((float(began), float(ended)))
        return sorted((min(c)[0], max(e for _, e in c)) for c in calls.values())
