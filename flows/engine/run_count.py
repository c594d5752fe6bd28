"""What the flow run of this process counts, from its start to its end (`run_metrics.py`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...recipe.measures import mlflow_name
from ...tasks.tracking.ledger import Event, Record
from .run_metrics import (
    CHANGED,
    CHANGES,
    DROP,
    GATES,
    LATENCY,
    SPEEDUP,
    STEP_SECONDS,
    STEPS,
    Counted,
    keep,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from ...tasks.outcome import Outcome
    from .runner import Runner


#: Gauges of a winner: the measure of each, and how many of its unit are one of the gauge's.
_OF_WINNER = (
    (DROP, "quality.drop", 1.0),
    (LATENCY, "latency.p50_ms", 1000.0),
    (SPEEDUP, "latency.ratio", 1.0),
)


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
        self._winner: dict[str, float] = {}
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
        winner = outcome.winning
        if winner is None and len(outcome.candidates) == 1:  # a champion that is measured again
            winner = outcome.candidates[0]
        self._winner = {} if winner is None else dict(winner.metrics)

    def close(self, flow: str, state: str, well: bool) -> None:
        for runner in self._runners:
            for step in runner.taken:
                result = "kept" if step.cached else "computed"
                self.counted.add(STEPS, self.recipe, step.step, result)
                if not step.cached:
                    self.counted.add(STEP_SECONDS, self.recipe, step.step, by=step.seconds)
            for name in runner.failed:
                self.counted.add(STEPS, self.recipe, name, "failed")
        for family, measure, units in _OF_WINNER:
            value = self._winner.get(mlflow_name(measure))
            if value is not None:
                self.counted.set(family, flow, self.recipe, to=value / units)
        self.counted.ended(flow, self.recipe, state, well, time.monotonic() - self._began)
        keep(self.counted)


_current: ContextVar[RunCount | None] = ContextVar("hone_run_count", default=None)


def this_run() -> RunCount:
    """The count of the present flow run; outside of one, a count that nobody reads."""
    return _current.get() or RunCount()


def champion_changed(model: str, record: Record) -> None:
    """An alias was moved, as the ledger has it."""
    action = "past-hone" if record.event is Event.OBSERVED else record.action.value
    moved(model, record.alias, action)


def moved(model: str, alias: str, action: str) -> None:
    """An alias was moved, or found to have been."""
    count = _current.get()
    counted = Counted() if count is None else count.counted
    counted.add(CHANGES, model, action)
    counted.set(CHANGED, model, alias, to=time.time())
    if count is None:  # by a command, which is no flow run
        keep(counted)


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
