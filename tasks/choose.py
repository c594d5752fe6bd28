"""Choose: which of the candidates that pass every gate wins, and why.

Candidates whose speed can't be told apart at 95 % confidence are a tie: the better quality wins it,
then the smaller artifact. So are two about which two measurements contradict each other. But on a
noisy machine much can't be told apart; who took a quarter longer has no tie. Pure functions of the
measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from ..recipe.benchmark import NO_TIE, SHOULD_BE_TOLD
from ..recipe.measures import Measure, bytes_in_words, find_measure, mlflow_name
from ..recipe.schema import Recipe
from ..recipe.strict import Strict
from .decide import Compared, metric_name
from .todays_champion import TodaysChampion

#: Differences of quality below this share are rounding.
_SAME_QUALITY = 1e-5
_QUIETER = "measure on a quiet machine, or with more benchmark.seconds and launches"


class Measured(Strict):
    """A candidate with all of its measurements.

    Attributes:
        name: Of the candidate.
        metrics: Under MLflow's names.
        rounds: Median duration of each round (s), by launch, at the batch size that selects; for a
            measure of a scenario, the time of a sample or query.
        before: The same of an earlier session that it was chosen by to be measured again.
        value_before: What that session measured of what `select` asks for.
    """

    name: str
    metrics: dict[str, float]
    rounds: list[list[float]] = Field(default_factory=list)
    before: list[list[float]] = Field(default_factory=list)
    value_before: float | None = None


@dataclass(frozen=True)
class Aim:
    """What `select` asks for.

    Attributes:
        measure: The measure that orders candidates.
        name: Its MLflow name.
        lower: Whether the lowest value wins.
        words: `the lowest latency.p50_ms at batch size 8`.
        timed: Whether rounds tell two candidates apart in it.
    """

    measure: str
    name: str
    lower: bool
    words: str
    timed: bool

    def value(self, candidate: Measured) -> float:
        return candidate.metrics[self.name]

    def key(self, candidate: Measured) -> float:
        return self.value(candidate) if self.lower else -self.value(candidate)


def compare(slower: Sequence[Sequence[float]], faster: Sequence[Sequence[float]]) -> Compared:
    """How many times as long the first takes as the second.

    Args:
        slower: Median duration of each round (s), by launch.
        faster: Median duration of each of the same rounds (s), by launch.
    """
    from .benchmark.statistics import ratio

    value, low, high = ratio(slower, faster)
    return Compared(ratio=value, low=low, high=high)


def pick(
    recipe: Recipe,
    passing: Sequence[Measured],
    champion: TodaysChampion | None = None,
    entrants: int | None = None,
    alone: str = "no other candidate passed every gate",
) -> tuple[Measured | None, str]:
    """The best of those that pass every gate, and why in a sentence.

    Args:
        recipe: What it selects by.
        passing: The candidates that passed every gate, in the recipe's order.
        champion: Today's champion, if the recipe compares with it.
        entrants: How many candidates the recipe has; None: at least two.
        alone: Why there is only one to pick from.
    """
    aim = aim_of(recipe, champion)
    able = [candidate for candidate in passing if aim.name in candidate.metrics]
    if not able:
        if passing:
            reason = champion.unmeasured if champion is not None else None
            return None, f"no candidate has a value of {aim.measure}" + (
                f": {reason}" if reason else ""
            )
        return None, "no candidate passed every gate"
    first = min(able, key=aim.key)
    others = [candidate for candidate in able if candidate is not first]
    if not others:
        why = f"it has {aim.words} ({aim.value(first):.4g})"
        if entrants == 1:
            alone = "it is the only candidate"
        return first, f"{why}; {alone}"
    alike = [candidate for candidate in others if _tie(aim, first, candidate)]
    tied = [candidate for candidate in alike if not _probably_slower(aim, first, candidate)]
    unsure = [candidate for candidate in alike if candidate not in tied]
    if tied:
        winner, why = _broken(recipe, aim, first, tied)
    else:
        second = min(others, key=aim.key)
        value, next_one = aim.value(first), aim.value(second)
        winner = first
        why = f"it has {aim.words} ({value:.4g}), before {second.name} ({next_one:.4g})"
    if unsure:
        are = "is" if len(unsure) == 1 else "are"
        why += (
            f"; the machine was too noisy to be certain that {', '.join(c.name for c in unsure)} "
            f"{are} slower ({_QUIETER})"
        )
    return winner, why


def aim_of(recipe: Recipe, champion: TodaysChampion | None) -> Aim:
    """What `select` asks for; without a champion, the measure that orders in the same way."""
    select = recipe.select
    measure = find_measure(select.metric)
    asked = select.metric
    if measure is not None and measure.without_champion and champion and champion.is_absent:
        asked = asked.replace(measure.name, measure.without_champion)
    lower = select.minimize is not None
    size = f" at batch size {select.batch_size}" if select.batch_size is not None else ""
    return Aim(
        measure=asked,
        name=metric_name(recipe, asked, select.batch_size),
        lower=lower,
        words=f"the {'lowest' if lower else 'highest'} {asked}{size}",
        timed=measure is not None and (measure.of_median or _has_rounds(measure)),
    )


def _has_rounds(measure: Measure) -> bool:
    """Whether a measure of a scenario has rounds of its own."""
    return measure.scenario is not None and measure.has_interval


def contradicted(aim: Aim, first: Measured, other: Measured) -> bool:
    """Whether the session before said the opposite of what this one says of two candidates: with
    certainty where rounds tell them apart, else by the order of the two values.
    """
    if not aim.timed:
        values = (first.value_before, other.value_before)
        if None in values or aim.value(first) == aim.value(other):
            return False
        one, two = (value if aim.lower else -value for value in values if value is not None)
        return (one - two) * (aim.key(first) - aim.key(other)) < 0
    if not first.before or not other.before:
        return False
    now, then = against(first, other), compare(other.before, first.before)
    return now is not None and ((now.low > 1 > then.high) or (then.low > 1 > now.high))


def _tie(aim: Aim, first: Measured, other: Measured) -> bool:
    """Whether another candidate can't be told apart from the first one."""
    if contradicted(aim, first, other):
        return True
    if not aim.timed:
        return aim.value(first) == aim.value(other)
    compared = against(first, other)
    return compared is not None and compared.alike


def _probably_slower(aim: Aim, first: Measured, other: Measured) -> bool:
    """Whether the other one took so much longer that only noise makes the two alike."""
    if not aim.timed or contradicted(aim, first, other):
        return False
    compared = against(first, other)
    return compared is not None and compared.ratio > 1 + NO_TIE


def against(first: Measured, other: Measured) -> Compared | None:
    if not first.rounds or not other.rounds:
        return None
    return compare(other.rounds, first.rounds)


def _broken(
    recipe: Recipe, aim: Aim, first: Measured, tied: list[Measured]
) -> tuple[Measured, str]:
    """Who wins a tie: the better quality, then the smaller artifact, then the better value."""
    among = [first, *tied]
    best = max(_quality(recipe, candidate) for candidate in among)
    good = [c for c in among if math.isclose(_quality(recipe, c), best, rel_tol=_SAME_QUALITY)]
    least = min(_size(candidate) for candidate in good)
    small = [candidate for candidate in good if _size(candidate) == least]
    winner = min(small, key=aim.key)
    value, all_equal = aim.value(winner), len(good) == len(among)
    opposed = [c.name for c in tied if contradicted(aim, first, c)]
    which = "the two" if len(among) == 2 else f"the {len(among)}"
    if opposed:
        why = (
            f"two measurements in fresh processes contradict each other about {first.name} and "
            f"{', '.join(opposed)}, so {which} count as equally fast"
        )
    elif not aim.timed:
        others = ", ".join(c.name for c in among if c is not winner)
        why = f"it has {aim.words} ({value:.4g}), as {others} {'has' if len(tied) == 1 else 'have'}"
    elif winner is first:
        others = ", ".join(f"{c.name} ({aim.value(c):.4g})" for c in tied[:3])
        others += f" and {len(tied) - 3} more" if len(tied) > 3 else ""
        why = (
            f"it has {aim.words} ({value:.4g}), before {others}; at 95 % confidence {which} can't "
            "be told apart"
        )
    else:
        why = (
            f"at 95 % confidence it can't be told apart from {first.name}, which has {aim.words} "
            f"({aim.value(first):.4g}, it {value:.4g})"
        )
    equals = "of the same quality" if all_equal else "of those with the best quality"
    if len(good) == 1:
        reason = f"of {which} it has the best quality ({abs(best):.4g})"
    elif len(small) == 1:
        reason = f"{equals} it is the smallest ({bytes_in_words(_size(winner))})"
    else:
        reason = f"{equals} none is smaller"
    noise = "" if opposed else _noise(aim, first, tied)
    return winner, f"{why}, and {reason}{noise}"


def _noise(aim: Aim, first: Measured, tied: list[Measured]) -> str:
    """Says so if the machine was too noisy to tell a difference that matters."""
    if not aim.timed:
        return ""
    hidden = 0.0
    for other in tied:
        compared = against(first, other)
        if compared is not None:
            hidden = max(hidden, compared.high - 1)
    if hidden <= SHOULD_BE_TOLD:
        return ""
    much = f"by {hidden:.0%}".replace("%", " %") if hidden <= 1 else "by more than 100 %"
    return (
        f"; the machine was too noisy to tell them apart: one could be slower {much} ({_QUIETER})"
    )


def _quality(recipe: Recipe, candidate: Measured) -> float:
    value = candidate.metrics.get(mlflow_name("quality.value", recipe.quality.name))
    if value is None:
        return -math.inf
    return value if recipe.quality.rises else -value


def _size(candidate: Measured) -> float:
    return candidate.metrics.get("size/bytes", math.inf)
