"""Confirm: which of the candidates that pass are measured again in fresh processes before one wins.

The fastest of several is in part the luckiest: it looks faster than it is (the winner's curse). So
the best few are measured once more, and that second session alone decides between them: nothing was
chosen by it, so its intervals hold what they promise, which those of both sessions together would
not. The first session decides who is measured again, and it can object: where it says the opposite
with certainty, the two are a tie (`choose.contradicted`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..recipe.benchmark import SHOULD_BE_TOLD
from ..recipe.measures import is_timed
from ..recipe.schema import Recipe
from .choose import Aim, Measured, against, aim_of, contradicted, pick
from .todays_champion import TodaysChampion

#: At most so many are measured again.
MOST = 3


def finalists(
    recipe: Recipe, passing: Sequence[Measured], champion: TodaysChampion | None = None
) -> tuple[str, ...]:
    """Names of those to measure again: the best, who would win now, and the next ones near them.

    None if what `select` asks for is not timed, or if no other candidate comes within 5 % of the
    best one at 95 % confidence: a second measurement would not change who wins.

    Args:
        recipe: What it selects by.
        passing: The candidates that passed every gate, as the first session measured them.
        champion: Today's champion, if the recipe compares with it.
    """
    aim = aim_of(recipe, champion)
    able = [candidate for candidate in passing if aim.name in candidate.metrics]
    if not may_measure_again(recipe, len(able)):
        return ()
    first = min(able, key=aim.key)
    near = [c for c in able if c is not first and _is_near(aim, first, c)]
    if not near:
        return ()
    ahead, _ = pick(recipe, able, champion)
    order = [first, *([ahead] if ahead is not None else []), *sorted(near, key=aim.key)]
    return tuple(dict.fromkeys(candidate.name for candidate in order))[:MOST]


def may_measure_again(recipe: Recipe, count: int) -> bool:
    """Whether so many candidates may be measured again: what is not timed is no matter of luck."""
    return recipe.benchmark.confirm and count > 1 and is_timed(recipe.select.metric)


def _is_near(aim: Aim, first: Measured, other: Measured) -> bool:
    compared = against(first, other) if aim.timed else None
    if compared is not None:
        return compared.low <= 1 + SHOULD_BE_TOLD
    best = aim.value(first)
    return abs(aim.value(other) - best) <= SHOULD_BE_TOLD * abs(best)


def in_words(
    recipe: Recipe, again: Sequence[Measured], champion: TodaysChampion | None = None
) -> str:
    """What the second session measured beside the first, in a sentence; empty if there is nothing.

    Args:
        recipe: What it selects by.
        again: Those that were measured again, with both sessions.
        champion: Today's champion, if the recipe compares with it.
    """
    aim = aim_of(recipe, champion)
    able = [c for c in again if aim.name in c.metrics and c.value_before is not None]
    if not able:
        return ""
    able.sort(key=aim.key)
    values = ", ".join(f"{c.name} {aim.value(c):.4g} (before {c.value_before:.4g})" for c in able)
    said = f"measured again in fresh processes, {aim.measure}: {values}"
    opposed = [
        f"{one.name} and {other.name}"
        for i, one in enumerate(able)
        for other in able[i + 1 :]
        if contradicted(aim, one, other)
    ]
    if opposed:
        return f"{said}; the two measurements contradict each other about {'; '.join(opposed)}"
    return said
