"""Track: everything of a run in MLflow, one parent run with a child for training and for each
candidate. Operations go through a journal and are sent by one thread, in order.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ...ray_workers.importing import importing_alone
from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...recipe.machine_errors import machine_error
from ...recipe.showable import showable, showable_data
from . import names
from .entries import (
    DatasetEntry,
    FinishEntry,
    FolderEntry,
    HeaderEntry,
    JournalEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    RunEntry,
    RunStatus,
    TagsEntry,
    TextEntry,
    model_key,
)
from .health import require_answer, unreachable
from .journal import Journal
from .liveness import heartbeat, owner_tags
from .names import PARENT
from .sender import MlflowSender
from .sending import Sending

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # s between tries while the server is away
_HEARTBEAT = 30.0  # s
#: Between two requests with metrics: this many times what the last one took, up to so long (s).
_PAUSE, _LONGEST_PAUSE = 4.0, 10.0
_SLOW = 300.0  # s that the end of a run waits for a server that is slow, and takes what it is sent
_FULL = 10.0  # s that a full disk under the embedded store is waited for
_PATIENCE = 10.0  # s that the end of a run waits for what earlier ones left unsent

log = logging.getLogger("hone")


def quiet_mlflow() -> None:
    """Make MLflow fail fast (the journal retries) and log less."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # It logs a trace of 76 lines for each statement on a full disk; the sender says it in one.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def preload() -> None:
    """Import MLflow's slow modules, while something else starts."""
    quiet_mlflow()
    importlib.import_module("mlflow")
    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    importlib.import_module("mlflow.pyfunc")
    # The first model that is saved makes MLflow list all installed files.
    requirements = importlib.import_module("mlflow.utils.requirements_utils")
    requirements.warn_dependency_requirement_mismatches(["numpy"])


class Tracker:
    """A flow's connection to MLflow.

    Args:
        uri: The tracking server or store.
        artifacts: Location of artifacts for a store without a server; None: the server decides.
        experiment: The experiment, named after the recipe.
        folder: Folder of journals.
    """

    def __init__(self, uri: str, artifacts: str | None, experiment: str, folder: Path) -> None:
        quiet_mlflow()
        self.uri = uri
        self.experiment = experiment
        self._folder = folder
        self._sender = MlflowSender(uri, artifacts, experiment)
        self._sending = Sending(self._sender, uri, folder)
        self._journal: Journal | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: set[tuple[str, str, int]] = set()
        self._open: list[str] = []
        self._away_since: float | None = None
        self._hurry = threading.Event()  # somebody waits for what is left
        self._next_metrics = 0.0  # when the next metrics may be sent, by `time.monotonic`

    def open(self, name: str, tags: dict[str, str]) -> str:
        """Start the parent run; close runs that dead processes left open, and send their entries.

        Returns:
            The parent's run id.

        Raises:
            ServerUnreachable: The tracking server does not answer.
        """
        from ..._version import __version__

        require_answer(self.uri)
        with importing_alone():  # Ray is imported meanwhile
            importlib.import_module("mlflow")
        try:
            self._sender.connect()
            run_id = self._sender.create_run(None, name, {**showable_data(tags), **owner_tags()})
        except Exception as error:
            if isinstance(error, HoneError):
                raise
            trouble = machine_error(error)
            if trouble is not None:
                raise trouble from error
            raise unreachable(self.uri, telling(error)[:200]) from error
        self._journal = Journal(self._folder / f"{run_id}.jsonl")
        self._journal.append(
            HeaderEntry(uri=showable(self.uri), experiment=self.experiment, version=__version__)
        )
        self._journal.ids[PARENT] = run_id
        self._journal.done(1)
        self._open.append(PARENT)
        self._thread = threading.Thread(target=self._work, name="hone-mlflow", daemon=True)
        self._thread.start()
        return run_id

    def child(self, ref: str, name: str, tags: dict[str, str]) -> None:
        """Start a child run, known here as `ref`."""
        self._open.append(ref)
        self._add(RunEntry(ref=ref, name=name, tags={**tags, **owner_tags()}))

    def metrics(self, ref: str, values: dict[str, float], model: str | None = None) -> None:
        """Numbers without a step."""
        for name, value in values.items():
            self.metric(ref, name, value, 0, int(time.time() * 1000), model)

    def metric(
        self, ref: str, name: str, value: float, step: int, time_ms: int, model: str | None = None
    ) -> None:
        """A metric; the first of two with the same name and step counts."""
        if (ref, name, step) in self._seen:
            return
        self._seen.add((ref, name, step))
        self._add(
            MetricEntry(ref=ref, name=name, value=value, step=step, time_ms=time_ms, model=model)
        )

    def params(self, ref: str, values: Mapping[str, object]) -> None:
        if values:
            self._add(ParamsEntry(ref=ref, values={k: str(v) for k, v in values.items()}))

    def tags(self, ref: str, values: dict[str, str]) -> None:
        if values:
            self._add(TagsEntry(ref=ref, values=values))

    def text(self, ref: str, content: str, file: str) -> None:
        """A text artifact."""
        self._add(TextEntry(ref=ref, content=content, file=file))

    def folder(self, ref: str, folder: Path, path: str) -> None:
        """A folder of files as artifacts under `path`."""
        self._add(FolderEntry(ref=ref, folder=str(folder), path=path))

    def dataset(self, entry: DatasetEntry) -> None:
        """A data set as an input of a run."""
        self._add(entry)

    def model(self, entry: ModelEntry) -> None:
        """A candidate as a LoggedModel of its run."""
        self._add(entry)

    def finish(self, ref: str, status: RunStatus) -> None:
        """End a run."""
        if ref in self._open:
            self._open.remove(ref)
            self._add(FinishEntry(ref=ref, status=status, time_ms=int(time.time() * 1000)))

    @property
    def problems(self) -> list[str]:
        """What MLflow refused, or can't be sent, in sentences."""
        return self._sending.problems

    @property
    def disk_error(self) -> HoneError | None:
        """Why the embedded store takes nothing now."""
        return self._sending.disk_error

    def run_id(self, ref: str) -> str | None:
        return self._ids().get(ref)

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None before the run is open."""
        return self._sender.experiment_id or None

    def model_id(self, ref: str) -> str | None:
        """Id of the LoggedModel of a candidate, once it is sent."""
        return self._ids().get(model_key(ref))

    def model_files(self, ref: str) -> dict[str, str]:
        """sha256 of each file of a candidate's LoggedModel, as this run wrote or compared them."""
        return self._sender.files.get(ref, {})

    def flush(self, seconds: float, while_it_takes: bool = False) -> bool:
        """Wait until everything is sent, up to a time limit; returns whether it is.

        Args:
            seconds: The limit (s).
            while_it_takes: The limit is for each entry: a server that is slow, and takes one after
                the other, is waited for.
        """
        self._wake.set()
        try:
            return self._wait_until_sent(seconds, while_it_takes)
        finally:
            self._hurry.clear()

    def _wait_until_sent(self, seconds: float, while_it_takes: bool) -> bool:
        since, left = time.monotonic(), 0
        while self._journal is not None and (waiting := self._journal.waiting()):
            self._hurry.set()
            if while_it_takes and waiting != left:
                since, left = time.monotonic(), waiting
            limit = seconds if self.disk_error is None else min(seconds, _FULL)
            alive = self._thread is not None and self._thread.is_alive()
            if time.monotonic() > since + limit or not alive:
                return False
            time.sleep(0.02)
        return True

    def away_for(self) -> float:
        """For how long the server has not answered (s); 0 if it does."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    @property
    def keeps_unsent(self) -> bool:
        """Whether what can't be sent is in the journal, for the next run; not on a full disk."""
        return self._journal is not None and self._journal.unwritten is None

    def close(self, status: RunStatus, seconds: float = 20) -> bool:
        """End every run that is still open, send what is left, stop.

        Args:
            status: Of the parent run, and of children that are still open.
            seconds: How long to wait for a server that is away. One that answers, and is only
                slow, is waited for up to `_SLOW`, unless the run was interrupted.

        Returns:
            Whether everything was sent; else the journal stays and the next run sends it.
        """
        for ref in reversed(list(self._open)):
            unfinished = RunStatus.FAILED if status is RunStatus.FINISHED else status
            self.finish(ref, status if ref == PARENT else unfinished)
        sent = self.flush(seconds)
        slow = time.monotonic() + (0.0 if status is RunStatus.KILLED else _SLOW)
        while not sent and self.away_for() == 0 and time.monotonic() < slow:
            sent = self.flush(1)
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(30)
            sent = sent or self._has_sent_all(self._thread)
        if self._journal is not None:
            self._journal.close(remove=sent)
        return sent

    def _has_sent_all(self, ended: threading.Thread) -> bool:
        left = self._journal is not None and self._journal.waiting()
        return not ended.is_alive() and not left

    def _ids(self) -> dict[str, str]:
        return {} if self._journal is None else self._journal.ids

    def _add(self, entry: JournalEntry) -> None:
        assert self._journal is not None, "the tracker was not opened"  # noqa: S101 (narrows a type)
        self._journal.append(_without_secrets(entry))
        if self._journal.unwritten is not None:
            self._sending.problem(
                f"the journal can't be written ({telling(self._journal.unwritten)}): what MLflow "
                "doesn't get by the end of this run is lost"
            )
        self._wake.set()

    def _work(self) -> None:
        """The thread: this run's entries first, then what earlier runs left behind."""
        assert self._journal is not None  # noqa: S101 (narrows a type)
        chores = self._sending.chores(self._journal)
        wait, beaten, stopped = _FIRST_WAIT, time.monotonic(), 0.0
        while True:
            if self._stop.is_set():
                stopped = stopped or time.monotonic()
            if time.monotonic() - beaten > _HEARTBEAT:
                beaten = time.monotonic()
                with contextlib.suppress(Exception):
                    self._sender.tag(self._journal.ids[PARENT], names.HEARTBEAT, heartbeat())
            if self._journal.waiting():
                if not stopped and (pause := self._pause()) > 0:
                    self._hurry.wait(min(pause, 1))
                    continue
                if self._guarded_send():
                    wait, self._away_since, self._sending.disk_error = _FIRST_WAIT, None, None
                    continue
                self._away_since = self._away_since or time.monotonic()
                if stopped:
                    break
                self._stop.wait(wait)
                wait = min(_LONGEST_WAIT, wait * 2)
            elif stopped and time.monotonic() - stopped > _PATIENCE:
                break
            elif next(chores, self) is self:
                if stopped:
                    break
                self._wake.wait(1)
                self._wake.clear()
        chores.close()

    def _guarded_send(self) -> bool:
        """Send this run's next entries; whatever is raised is told, and does not end the thread."""
        assert self._journal is not None  # noqa: S101 (narrows a type)
        began = time.monotonic()
        try:
            return self._sending.send_next(self._journal)
        except Exception as error:
            self._sending.problem(f"what this run tracks can't be sent: {telling(error)[:300]}")
            return False
        finally:
            now = time.monotonic()
            self._next_metrics = now + min(_LONGEST_PAUSE, _PAUSE * (now - began))

    def _pause(self) -> float:
        """How long the next entries should wait (s): only metrics do, and only if nobody waits.

        Each step of a training makes some. MLflow's server hashes the password several times for
        each request if it checks passwords, so one training alone would keep it busy.
        """
        assert self._journal is not None  # noqa: S101 (narrows a type)
        if self._hurry.is_set() or not isinstance(self._journal.next(1)[0], MetricEntry):
            return 0.0
        return self._next_metrics - time.monotonic()


def _without_secrets(entry: JournalEntry) -> JournalEntry:
    """The entry as it may be kept, in the journal and in MLflow."""
    match entry:
        case RunEntry():
            return entry.model_copy(update={"tags": showable_data(entry.tags)})
        case ParamsEntry() | TagsEntry():
            return entry.model_copy(update={"values": showable_data(entry.values)})
        case TextEntry():
            return entry.model_copy(update={"content": showable(entry.content)})
        case DatasetEntry():
            return entry.model_copy(update={"source": showable_data(entry.source)})
    return entry
