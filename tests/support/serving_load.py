"""Champion changes and rollbacks of a model that is served, under load: was any request dropped, or
answered by a version that was not the champion?
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prefect_hone.tasks.tracking.registry import Promotable, promote
from prefect_hone.tasks.tracking.rollback import rollback

from .logged_models import logged, times

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
#: How often the server asks the registry (s).
LOOKS = 0.2


@dataclass
class Load:
    """What clients saw.

    Attributes:
        url: Where requests go.
        answers: When a request began and ended (s), the version, and the factor it multiplied by.
        failures: Of requests, in words.
    """

    url: str
    answers: list[tuple[float, float, str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._end.is_set():
                began = time.monotonic()
                try:
                    said = client.post(self.url, json={"inputs": [[1.0, 1.0, 1.0]]})
                    said.raise_for_status()
                    body = said.json()
                    row = body["predictions"][0]
                    version = body.get("version") or said.headers["x-champion-version"]
                    self.answers.append((began, time.monotonic(), version, row[0]))
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                time.sleep(0.01)

    @contextlib.contextmanager
    def running(self, clients: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()


@contextlib.contextmanager
def serving(uri: str, app: tuple[str, ...]) -> Iterator[str]:
    """An example's app in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / app[0]), "wine", "--port", str(port),
         "--seconds", str(LOOKS), *app[1:]],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/ping", timeout=5).status_code == 200:
                    break
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
        yield url
    finally:
        theirs = []
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, which is told already
            theirs = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(60)
        _, left = psutil.wait_procs(theirs, timeout=10)
        for one in left:
            one.kill()
        assert not left, "the server has left processes behind"


def asked(uri: str, folder: Path, factor: int) -> Promotable:
    """A champion that multiplies by a factor, logged with its proof."""
    entry = times(folder / str(factor), factor, measured=factor)
    sender, model_id = logged(uri, folder, entry)
    return Promotable(
        model="wine", alias="champion", model_id=model_id, sha256=entry.sha256,
        files=sender.files[entry.ref], recipe_digest="d", who="ann",
    )  # fmt: skip


@dataclass
class Changes:
    """The result.

    Attributes:
        load: What clients saw.
        moved: When a change of the alias began and was seen to be done (s), and to which version.
        seconds: From each alias that moved to the first answer of its version.
    """

    load: Load
    moved: list[tuple[float, float, str]]
    seconds: list[float]

    def strangers(self) -> list[str]:
        """Answers of a version that was not the champion at any time while it was asked.

        A server hears of a change when it asks next, and loads the version first; so the one before
        is right until the first answer of the new one was seen, and never after.
        """
        factors = {"1": 2.0, **{str(i): float(i + 1) for i in range(2, 40)}}
        wrong = []
        for began, ended, version, factor in self.load.answers:
            if factors[version] != factor:
                wrong.append(f"version {version} multiplied by {factor}")
            ours = [(a, b) for a, b, v in self._reigns() if v == version]
            if not any(a <= ended and began <= b for a, b in ours):
                wrong.append(f"version {version} answered at {began:.2f}, it reigned {ours}")
        return wrong

    def _reigns(self) -> list[tuple[float, float, str]]:
        ends = [seen for _, seen, _ in self.moved[1:]] + [float("inf")]
        return [(began, end, v) for (began, _, v), end in zip(self.moved, ends, strict=True)]


def change_champions(
    uri: str, folder: Path, steps: str, app: tuple[str, ...] = ("asgi_app.py",), clients: int = 4
) -> Changes:
    """Promote and roll back while clients ask.

    Args:
        uri: An MLflow store.
        folder: For the models' files.
        steps: `+` promotes a new version, `-` rolls back.
        app: The example, and further arguments.
        clients: That ask, one request after the other each.
    """
    news = [asked(uri, folder, factor) for factor in range(2, 3 + steps.count("+"))]
    first = promote(uri, news.pop(0))
    with serving(uri, app) as url:
        load = Load(f"{url}/invocations")
        moved, seconds = [(0.0, time.monotonic(), first.version)], []
        with load.running(clients):
            for step in steps:
                began = time.monotonic()
                if step == "+":
                    version = promote(uri, news.pop(0)).version
                else:
                    entry = rollback(uri, "wine", None, "the new one is worse", "ann")
                    version = str(entry.record.after)
                there = time.monotonic()
                seen = _first_answer(load, version, began)
                moved.append((began, seen, version))
                seconds.append(max(0.0, seen - there))
    return Changes(load, moved, seconds)


def _first_answer(load: Load, version: str, since: float) -> float:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for began, ended, answered, _ in list(load.answers):
            if answered == version and began >= since:
                return ended
        time.sleep(0.02)
    raise AssertionError(f"version {version} does not answer; {load.failures[:3]}")
