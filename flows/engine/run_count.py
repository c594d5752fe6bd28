"""What the flow run of this process counts, from its start to its end (`run_metrics.py`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...tasks.tracking.ledger import Event, Record
from .run_metrics import CHANGES, GATES, STEP_SECONDS, STEPS, Counted, keep

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from ...tasks.outcome import Outcome
    from .runner import Runner


class RunCount:
    """A flow run that is being counted.

    Attributes:
        counted: What it counts.
        recipe: Name of its recipe, as soon as it is known.
    """

    def __init__(self) -> None:
        self.counted = Counted()
        self.recipe = ""
        self._runners: list[Runner] = []
        self._began = time.monotonic()

    def steps_of(self, recipe: str, runner: Runner) -> None:
        """The steps of this runner are to be counted, whatever becomes of the run."""
        self.recipe = recipe
        self._runners.append(runner)

    def outcome(self, outcome: Outcome) -> None:
        for candidate in outcome.candidates:
            for gate in candidate.gates:
                if not gate.passed:
                    self.counted.add(GATES, outcome.recipe, gate.metric)

    def close(self, flow: str, state: str, well: bool) -> None:
        for runner in self._runners:
            for step in runner.taken:
                result = "kept" if step.cached else "computed"
                self.counted.add(STEPS, self.recipe, step.step, result)
                if not step.cached:
                    self.counted.add(STEP_SECONDS, self.recipe, step.step, by=step.seconds)
            for name in runner.failed:
                self.counted.add(STEPS, self.recipe, name, "failed")
        self.counted.ended(flow, self.recipe, state, well, time.monotonic() - self._began)
        keep(self.counted)


_current: ContextVar[RunCount | None] = ContextVar("hone_run_count", default=None)


def this_run() -> RunCount:
    """The count of the present flow run; outside of one, a count that nobody reads."""
    return _current.get() or RunCount()


def champion_changed(model: str, record: Record) -> None:
    """An alias was moved, as the ledger has it."""
    moved(model, "past-hone" if record.event is Event.OBSERVED else record.action.value)


def moved(model: str, action: str) -> None:
    """An alias was moved."""
    count = _current.get()
    if count is not None:
        count.counted.add(CHANGES, model, action)
        return
    alone = Counted()  # by a command, which is no flow run
    alone.add(CHANGES, model, action)
    keep(alone)


@contextlib.contextmanager
def counting() -> Iterator[list[State[Any]]]:
    """Count a flow run; its state is appended to the list before the end."""
    from prefect.runtime import flow_run

    count, states = RunCount(), list["State[Any]"]()
    token = _current.set(count)
    try:
        yield states
    finally:
        _current.reset(token)
        name, well = "Crashed", False
        if states:
            name, well = states[-1].name or "", states[-1].is_completed()
        count.close(str(flow_run.flow_name or ""), name, well)
