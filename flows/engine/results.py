"""What came of steps: the plain data that the flow concludes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...ray_workers.dispatch import Done
from ...ray_workers.store.artifacts import Artifact
from ...recipe.strict import Strict
from ...tasks.steps import Step
from .layout import Layout


class StepResult(Strict):
    """What a step gave, computed now or before.

    Attributes:
        step: What kind of step it is.
        label: What it is called in this run.
        key: Its cache key.
        cached: Whether a kept result was used.
        done: Outputs, metrics, parameters and facts.
    """

    step: Step[Any]
    label: str
    key: str
    cached: bool
    done: Done

    def artifact(self, name: str) -> Artifact:
        return self.done.outputs[name]


@dataclass(frozen=True)
class Settled:
    """A step that is over: its result, or why it has none."""

    result: StepResult | None
    error: str = ""

    @property
    def done(self) -> Done | None:
        return None if self.result is None else self.result.done


@dataclass(frozen=True)
class Results:
    """What came of all steps of a run.

    Attributes:
        layout: The steps up to validation.
        benchmark: None where no candidate got so far.
        steps: Results of all steps that succeeded, in order.
        notes: What is worth telling of the whole run.
    """

    layout: Layout[Settled]
    benchmark: StepResult | None
    steps: tuple[StepResult, ...]
    notes: tuple[str, ...] = ()
