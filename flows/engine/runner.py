"""The step runner: cache, dispatch to Ray, MLflow and observers, the same for every step."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...ray_workers.dispatch import Done, StepJob, dispatch
from ...ray_workers.events import EpochEnd, Event, Metric, Note, Progress
from ...ray_workers.store.artifacts import Artifact, ArtifactCorrupted
from ...ray_workers.store.file_lock import locked
from ...ray_workers.user_warnings import WARNING
from ...recipe.errors import HoneError, StepTimeout
from ...recipe.machine_errors import machine_error
from ...recipe.showable import showable
from ...tasks.keys import cache_key, lineage_key
from ...tasks.steps import Call
from ...tasks.tracking import names
from ...tasks.tracking.names import PARENT
from ...tasks.tracking.tracker import Tracker
from .records import find_record, record_name, refused
from .results import StepResult
from .session import Session


class StepTaken(NamedTuple):
    """A step of a run: how long it took when it was computed (s), and whether that was before."""

    step: str
    label: str
    seconds: float
    cached: bool


class Runner:
    """Runs the steps of one flow.

    Args:
        session: The session.
        tracker: MLflow.
        code: The packed code folder.
        again: Labels of steps to compute whether or not they are cached.

    Attributes:
        notes: Messages that the user got.
        taken: The steps that succeeded, in the order in which they finished.
        failed: Names of steps whose tries failed, once for each try.
    """

    def __init__(
        self,
        session: Session,
        tracker: Tracker,
        code: Artifact | None,
        again: frozenset[str] = frozenset(),
    ) -> None:
        self.session = session
        self.tracker = tracker
        self.code = code
        self._again = again
        self.notes: list[str] = []
        self.taken: list[StepTaken] = []
        self.failed: list[str] = []
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def run(self, call: Call, inputs: dict[str, Artifact], log: Any = None) -> StepResult:
        """Run a step, or use its cached result after verifying it.

        Args:
            call: The step.
            inputs: Its input artifacts.
            log: A logger for notes and epochs, such as Prefect's.

        Raises:
            HoneError: The step failed.
        """
        digests = {name: artifact.sha256 for name, artifact in inputs.items()}
        key = cache_key(call, digests, self.session.user_code)
        lineage = lineage_key(call, digests, self.session.user_code)
        with self._only_one(lineage, call):
            if call.label in self._again and call.step.keeps_checkpoints:
                self._drop_checkpoints(lineage)  # again means from the beginning
            done = None if call.label in self._again else self._cached(call, key)
            if done is not None:
                self._tell(call, done, cached=True)
                return _result(call, key, done, cached=True)
            done = self._compute(call, key, lineage, inputs, log)
        self._tell(call, done, cached=False)
        return _result(call, key, done, cached=False)

    def _cached(self, call: Call, key: str) -> Done | None:
        done = find_record(self.session.store, call, key)
        unsigned = refused(self.session.store)
        if unsigned is not None:
            self.note(unsigned)
        if done is None:
            return None
        try:
            for artifact in done.outputs.values():
                self.session.store.fetch(artifact)
        except ArtifactCorrupted as error:
            self.note(f"{call.label}: {error.what}; recomputing it")
            self.session.store.delete_record(record_name(call, key))
            return None
        self.session.store.mark_used(record_name(call, key))
        return done

    def _compute(
        self, call: Call, key: str, lineage: str, inputs: dict[str, Artifact], log: Any
    ) -> Done:
        observer = self.session.observer
        observer.started(call.label)
        ref = self._ref(call)

        def report(event: Event) -> None:
            if isinstance(event, Progress | Note | EpochEnd):
                event = dataclasses.replace(event, text=showable(event.text))
            if isinstance(event, Note) and event.text.startswith(WARNING):
                self.note(event.text)  # once in a run, whichever steps it comes from
                return
            if isinstance(event, Metric):
                self.tracker.metric(ref, event.name, event.value, event.step, event.time_ms)
                return
            if isinstance(event, Note | EpochEnd) and log is not None:
                log.info(event.text)
            observer.event(call.label, event)

        settings, cpus = self.session.settings, call.cpus
        if call.step.holds_the_machine:
            cpus = self.session.cluster.whole_node(call.cpus, call.gpus)
        job = StepJob(
            function=call.step.function,
            key=key,
            lineage=lineage,
            spec=call.spec.model_dump(mode="json"),
            inputs=inputs,
            code=self.code if call.step.runs_user_code else None,
            allowed=self.session.allowed,
            checkpoint_key=self.session.store.key_for(f"checkpoints {lineage}"),
            secrets=self.session.all_secrets,
            store=settings.store,
            cache=str(settings.cache),
            cpus=cpus,
            gpus=call.gpus,
            timeout=call.timeout,
            watch_memory=call.step.watches_memory,
        )
        try:
            done = dispatch(job, self.session.cluster, report)
        except HoneError as error:  # what the user wrote in the recipe, not our copy of it
            given = {kept: name for name, kept in self.session.kept.items()}
            raise error.renamed(given) from error
        done = done.model_copy(update={"run_id": self.tracker.run_id(ref) or ""})
        self.session.store.write_record(record_name(call, key), done.model_dump(mode="json"))
        if call.step.keeps_checkpoints:
            self._drop_checkpoints(lineage)
        return done

    def _tell(self, call: Call, done: Done, cached: bool) -> None:
        self.session.observer.finished(call.label, done.seconds, cached)
        for text in done.notes:
            self.note(f"{call.label}: {text}")
        ref = self._ref(call)
        if ref != PARENT:
            self.tracker.params(ref, done.params)
            self.tracker.metrics(ref, done.metrics)
            if call.candidate is not None:
                self.tracker.metrics(ref, {f"{call.step.name}/seconds": done.seconds})
            if done.peak_memory:
                self.tracker.metrics(ref, {f"{call.step.name}/peak_bytes": float(done.peak_memory)})
            if cached and done.run_id:
                self.tracker.tags(ref, {names.computed_in(call.step.name): done.run_id})
        self.taken.append(StepTaken(call.step.name, call.label, done.seconds, cached))

    def note(self, text: str) -> None:
        """Send the user a message, once."""
        text = showable(text)
        if text not in self.notes:
            self.notes.append(text)
            self.session.observer.note(text)

    def _ref(self, call: Call) -> str:
        """The MLflow run for a step's metrics."""
        return call.step.tracked_as or call.candidate or PARENT

    def _drop_checkpoints(self, lineage: str) -> None:
        store = self.session.store
        with contextlib.suppress(FileNotFoundError, OSError):
            store.fs.rm(f"{store.root}/training/{lineage}", recursive=True)

    @contextlib.contextmanager
    def _only_one(self, key: str, call: Call) -> Iterator[None]:
        """Keep two runs on one machine from computing the same step: the second one waits.

        Raises:
            StepTimeout: The other one takes longer than the step may.
            HoneError: The run was interrupted, or `HONE_HOME` can't be written.
        """
        folder = Path(self.session.settings.home) / "locks"
        with self._guard:
            mine = self._locks.setdefault(key, threading.Lock())
        with mine, contextlib.ExitStack() as stack:  # variants of the same bytes meet at `mine`
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(
                    locked(
                        folder / key,
                        lambda: self.session.observer.note(
                            f"{call.label}: another run is computing it; waiting"
                        ),
                        call.timeout,
                        self.session.cluster.cancelled.is_set,
                    )
                )
            except InterruptedError:
                raise HoneError("the run was interrupted") from None
            except TimeoutError:
                raise StepTimeout(
                    f"another run has been computing it for more than {call.timeout:g} s",
                    where=str(folder / key),
                    do="wait for that run or end it, then run again",
                ) from None
            except OSError as error:
                raise machine_error(error) or HoneError(
                    f"HONE_HOME can't be used: {error.strerror}",
                    where=str(self.session.settings.home),
                    do="set HONE_HOME to a folder that you can write to",
                ) from error
            yield


def _result(call: Call, key: str, done: Done, cached: bool) -> StepResult:
    return StepResult(step=call.step, label=call.label, key=key, cached=cached, done=done)
