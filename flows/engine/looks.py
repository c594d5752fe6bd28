"""What was looked at besides quality and speed: its measurements, and what was not looked at."""

from __future__ import annotations

from typing import TypeVar

from ...recipe.proofs import SWITCHES
from ...recipe.schema import Recipe
from ...tasks.specs.base import Facts
from ...tasks.specs.explanation import ExplanationFacts
from ...tasks.specs.robustness import RobustnessFacts
from .layout import CandidateLayout
from .results import Results, Settled

F = TypeVar("F", bound=Facts)


def look_metrics(way: CandidateLayout[Settled]) -> dict[str, float]:
    """Measurements of a candidate, under MLflow's names."""
    return {
        name: value
        for look in way.looks
        if look.done is not None
        for name, value in look.done.metrics.items()
    }


def look_notes(way: CandidateLayout[Settled]) -> tuple[str, ...]:
    """What of a candidate could not be looked at."""
    return tuple(f"not looked at: {look.error}" for look in way.looks if look.result is None)


def look_facts(way: CandidateLayout[Settled], kind: type[F]) -> F | None:
    """What was found out of a candidate; None if that was not looked at."""
    for look in way.looks:
        if look.result is not None and look.result.step.facts is kind:
            return look.result.done.facts_as(kind)
    return None


def turned_off(recipe: Recipe) -> dict[str, str]:
    """What the recipe turns off, by its switch, with the reason."""
    off = {name: f"proofs.{name} is off" for name in recipe.proofs.off()}
    return off if recipe.quality.groups else {n: why for n, why in off.items() if n != "groups"}


def in_words(why: dict[str, str]) -> tuple[str, ...]:
    """What was not looked at, by its switch, each with the reason."""
    return tuple(f"{SWITCHES[name]} ({why[name]})" for name in SWITCHES if name in why)


def not_looked_at(recipe: Recipe, results: Results) -> tuple[str, ...]:
    """What was not looked at in a run, each with the reason."""
    why = turned_off(recipe)
    facts: dict[str, type[RobustnessFacts] | type[ExplanationFacts]] = {
        "robustness": RobustnessFacts, "explanation": ExplanationFacts,
    }  # fmt: skip
    for name, kind in facts.items():
        found = [look_facts(way, kind) for way in results.layout.candidates]
        reasons = [one.not_looked_at for one in found if one is not None]
        if reasons and all(reasons):
            why[name] = str(reasons[0])
    return in_words(why)
