"""Results of steps: the plain data that the flow concludes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...ray_workers.dispatch import Done
from ...ray_workers.store.artifacts import Artifact
from ...recipe.strict import Strict
from ...tasks.steps import Step
from ...tasks.todays_champion import TodaysChampion
from .layout import Layout


class StepResult(Strict):
    """The result of a step, computed now or before.

    Attributes:
        step: The kind of step.
        label: Its name in this run.
        key: Its cache key.
        cached: Whether a cached result was used.
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
    """A step that has ended: its result, or why it has none.

    Attributes:
        result: None if it failed.
        error: Why.
        unchanged: Whether it failed because there was nothing to change.
    """

    result: StepResult | None
    error: str = ""
    unchanged: bool = False

    @property
    def done(self) -> Done | None:
        return None if self.result is None else self.result.done


@dataclass(frozen=True)
class Results:
    """The results of all steps of a run.

    Attributes:
        layout: The steps up to validation.
        benchmark: None if no candidate got that far.
        steps: Results of all steps that succeeded, in order.
        notes: Notes about the whole run.
        champion: Today's champion, if the recipe compares with it; nothing is measured of it yet.
        compared: The comparison of the candidates' quality with the champion's, if there is one.
        confirmed: The second session of the benchmark, if the best few were measured again.
    """

    layout: Layout[Settled]
    benchmark: StepResult | None
    steps: tuple[StepResult, ...]
    notes: tuple[str, ...] = ()
    champion: TodaysChampion | None = None
    compared: Settled | None = None
    confirmed: StepResult | None = None
