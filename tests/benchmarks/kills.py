"""What is left of runs that are killed at random moments?

    python tests/benchmarks/kills.py [KILLS [SEED]]

An undisturbed run, KILLS runs (100) that get SIGKILL, SIGTERM or SIGHUP at a random moment, and an
undisturbed run again, on the servers that Hone starts itself. Then it counts: steps that were done
and were computed again, champions that were not measured, runs that failed by themselves, runs that MLflow or Prefect still call
running, and processes and temporary folders. Each must be 0.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

HERE = Path(__file__).parent
HONE = Path(sys.executable).with_name("hone")
#: Of these one is chosen for each run.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
RUNS_EACH = 4  # of a recipe, before it changes and there is work again
LONGEST_END = 60.0  # s after SIGTERM or SIGHUP
AGENTS = 75.0  # s after which Ray's agents have noticed that a killed cluster is gone


class Place:
    """A home of its own, and everything that runs in it.

    Attributes:
        done: Labels of the steps that were done, by the recipe's seed.
        lost: Steps that were done and were computed again.
        longest_end: From a signal to the end of the process (s).
        late: Processes that were left 2 s after a run had ended in order.
        odd: Runs that failed by themselves, or were ended otherwise than by their signal.
        hit: Runs that were still working when their signal came.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.prefect = folder / "home", folder / "prefect"
        self.temporary = folder  # a longer path would be too long for Ray's sockets
        self.recipe = folder / "project" / "recipe.yaml"
        shutil.copytree(
            HERE.parent / "project",
            folder / "project",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
        for name in ("RAY_ADDRESS", "RAY_TMPDIR", "HONE_STORE"):
            kept.pop(name, None)
        self.environment = {
            **kept,
            "HONE_HOME": str(self.home),
            "PREFECT_HOME": str(self.prefect),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.done: dict[int, set[str]] = {}
        self.lost: list[str] = []
        self.longest_end = 0.0
        self.late: list[str] = []
        self.odd: list[str] = []
        self.hit = 0

    def start(self, seed: int) -> subprocess.Popen[str]:
        options = [
            f"train.seed={seed}", "train.epochs=2", "variants=[{name: fp32}]",
            "data.args={delay: 0.005}",
        ]  # fmt: skip
        return subprocess.Popen(
            [str(HONE), "run", str(self.recipe), *(w for o in options for w in ("--set", o))],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def note(self, seed: int, said: str) -> None:
        before = self.done.setdefault(seed, set())
        computed = set(re.findall(r"s  (.+): done in", said))
        self.lost += [f"{label} (seed {seed})" for label in sorted(computed & before)]
        before |= computed | set(re.findall(r"s  (.+): cached", said))

    def whole(self, seed: int) -> tuple[float, str]:
        """An undisturbed run: how long it took (s), and what it said."""
        started = time.monotonic()
        process = self.start(seed)
        said, _ = process.communicate()
        self.note(seed, said)
        self._judge("an undisturbed run", process.returncode, {0}, said)
        return time.monotonic() - started, said

    def killed(self, seed: int, number: signal.Signals, after: float) -> str:
        process = self.start(seed)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        finished = process.poll() is not None
        self.hit += not finished
        started_by_it = []
        with contextlib.suppress(psutil.Error):
            started_by_it = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        started = time.monotonic()
        try:
            said, _ = process.communicate(timeout=LONGEST_END)
        except subprocess.TimeoutExpired:
            self.late.append(f"hone itself, {LONGEST_END:.0f} s after {number.name}")
            process.kill()
            said, _ = process.communicate()
        took = time.monotonic() - started
        self.note(seed, said)
        # A run that is finished, but for the end of its process, dies of the signal itself.
        ends = {0} if finished else {0, -number, 128 + number}
        self._judge(f"{number.name} after {after:.1f} s", process.returncode, ends, said)
        if number is not signal.SIGKILL:
            self.longest_end = max(self.longest_end, took)
            _, alive = psutil.wait_procs(started_by_it, timeout=2)
            for left in alive:
                with contextlib.suppress(psutil.Error):
                    words = " ".join(left.cmdline())
                    if words and "uvicorn" not in words:  # which takes 5 s to write what it has
                        self.late.append(f"{words[:60]} after {number.name}")
        return f"{number.name} after {after:5.1f} s: exit {process.returncode}, {took:.1f} s later"

    def _judge(self, what: str, code: int, right: set[int], said: str) -> None:
        if code not in right:
            print(said)
            self.odd.append(f"{what}: exit {code}")

    def processes(self) -> list[str]:
        """Processes of this place that are alive: they have its home in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HONE_HOME") != str(self.home):
                    continue
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline())[:60])
        return found

    def left_over(self) -> list[str]:
        ours = {self.home.name, self.prefect.name, self.recipe.parent.name, "ray"}
        return sorted(p.name for p in self.temporary.iterdir() if p.name not in ours)

    def sessions(self) -> list[str]:
        return sorted(p.name for p in self.temporary.glob("ray/session_2*"))


def rows(database: Path, query: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def false_champions(place: Place) -> Iterator[str]:
    """Champions whose bytes are not those of a candidate that passed."""
    database = place.home / "mlflow.db"
    passed = {
        sha
        for (sha,) in rows(
            database,
            "SELECT a.value FROM tags a JOIN tags b ON a.run_uuid = b.run_uuid "
            "WHERE a.key = 'hone.sha256' AND b.key = 'hone.status' AND b.value = 'passed'",
        )
    }
    for name, version in rows(
        database, "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion'"
    ):
        tags = dict(
            rows(
                database,
                "SELECT key, value FROM model_version_tags "
                f"WHERE name = '{name}' AND version = {version}",
            )
        )
        if tags.get("hone.sha256") not in passed:
            yield f"{name} version {version}"


def loads(place: Place) -> bool:
    """Whether the champion's files are what was registered: its loader compares them."""
    code = "import mlflow; mlflow.pyfunc.load_model('models:/wine@champion')"
    tracking = f"sqlite:///{place.home}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**place.environment, "MLFLOW_TRACKING_URI": tracking},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stderr[-1000:])
    return done.returncode == 0


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10_000)
    chance = random.Random(seed)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, a run would rightly ignore it
    with tempfile.TemporaryDirectory(prefix="k", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder))
        place.whole(0)  # makes the databases
        longest, _ = place.whole(1)
        print(f"{kills} kills, seed {seed}; an undisturbed run takes {longest:.0f} s", flush=True)
        false = 0
        for i in range(kills):
            which = 2 + i // RUNS_EACH
            said = place.killed(which, chance.choice(SIGNALS), chance.uniform(0, 1.1 * longest))
            false += len(list(false_champions(place)))
            print(f"{i + 1:4}  {said}", flush=True)
        place.whole(2 + max(0, kills - 1) // RUNS_EACH)
        print(f"waiting {AGENTS:.0f} s for Ray's agents to notice that their clusters are gone")
        deadline = time.monotonic() + AGENTS
        while place.processes() and time.monotonic() < deadline:
            time.sleep(1)
        running = rows(place.home / "mlflow.db", "SELECT name FROM runs WHERE status = 'RUNNING'")
        flows = rows(
            place.prefect / "prefect.db",
            "SELECT name, state_name FROM flow_run WHERE state_type IN ('RUNNING', 'PENDING')",
        )
        counted = {
            "steps lost": place.lost,
            "champions that were not measured": ["?"] * false,
            "champions that don't load": [] if loads(place) else ["wine"],
            "runs that failed by themselves or aborted": place.odd,
            "MLflow runs left RUNNING": running,
            "Prefect flow runs left running": flows,
            "processes left by SIGTERM and SIGHUP after 2 s": place.late,
            "processes left": place.processes(),
            "temporary folders left": place.left_over(),
            "session folders of Ray left": place.sessions(),
        }
    print(f"\n| after {kills} kills, {place.hit} of runs at work | count | |\n| --- | --- | --- |")
    for name, found in counted.items():
        print(f"| {name} | {len(found)} | {', '.join(map(str, found[:4]))} |")
    print(f"| longest end after SIGTERM or SIGHUP (s) | {place.longest_end:.1f} | |")
    sys.exit(1 if any(counted.values()) else 0)


if __name__ == "__main__":
    main()
