"""Whether a recipe measures what its gates and `select` ask for: refused when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .measures import BOUNDS, MEASURES, Measure, find_measure
from .metrics import METRICS
from .strict import mistake

if TYPE_CHECKING:
    from .schema import Recipe

_COVERAGE = "coverage.fraction"
_RATIO_TO_UNCOMPRESSED = "latency.ratio_to_uncompressed"


@dataclass(frozen=True)
class _Asked:
    """A measure that a gate or `select` asks for.

    Attributes:
        where: The field.
        name: As it is named there.
        judged: The name of what is compared: the measure's, or that of a bound of it.
    """

    where: str
    name: str
    judged: str


def check_measured(recipe: Recipe) -> None:
    """Refuse a gate or `select` on what the recipe does not measure.

    Raises:
        PydanticCustomError: With the names that it does measure.
    """
    asked = [
        *(_Asked(f"gates.{i}", g.metric, g.judged) for i, g in enumerate(recipe.own_gates)),
        _Asked("select", recipe.select.metric, recipe.select.metric),
    ]
    for one in asked:
        measure = find_measure(one.name)
        if measure is None:
            _require_own_metric(recipe, one)
        else:
            _require_proof(recipe, one, measure)
            _require_scenario(recipe, one, measure)
            _require_kind(recipe, one, measure)
            _require_variants(recipe, one, measure)
            if measure.by_group and not recipe.quality.groups:
                raise mistake(
                    "groups",
                    "{where} asks for '{name}', which needs quality.groups",
                    where=one.where,
                    name=one.name,
                )
        _require_interval(recipe, one)


def _require_kind(recipe: Recipe, asked: _Asked, measure: Measure) -> None:
    """Refuse what needs right and wrong answers, or classes, where the metric judges none."""
    judge = METRICS.get(recipe.quality.metric)
    if judge is None:
        return
    if measure.of_answers and not judge.of_answers:
        raise mistake(
            "answers",
            "{where} asks for '{name}', which counts right and wrong answers, and {metric} has "
            "none: it needs one of {able}, or a metric of your own",
            where=asked.where,
            name=asked.name,
            metric=recipe.quality.name,
            able=", ".join(n for n, m in METRICS.items() if m.of_answers),
        )
    if measure.of_classes and not judge.of_classes:
        raise mistake(
            "classes",
            "{where} asks for '{name}', which compares classes, and {metric} judges none: "
            "parity.sqnr_db compares outputs of any kind",
            where=asked.where,
            name=asked.name,
            metric=recipe.quality.name,
        )


def _require_own_metric(recipe: Recipe, asked: _Asked) -> None:
    """Refuse `quality.NAME` of another metric than the recipe's."""
    own = {f"quality.{recipe.quality.name}{bound}" for bound in ("", *BOUNDS)}
    if asked.name not in own:
        able = (
            f"quality.{recipe.quality.name}",
            *(n for n in MEASURES if n.startswith("quality.")),
        )
        raise mistake(
            "quality",
            "{where} asks for '{name}', but quality.metric is '{metric}': this run measures {able}",
            able=", ".join(able),
            where=asked.where,
            name=asked.name,
            metric=recipe.quality.name,
        )


def _require_proof(recipe: Recipe, asked: _Asked, measure: Measure) -> None:
    """Refuse what is turned off."""
    off = recipe.proofs.off()
    if measure.proof in off:
        raise mistake(
            "proof",
            "{where} asks for '{name}', and proofs.{proof} is off: turn it on, or name one that "
            "this run measures: {able}",
            where=asked.where,
            name=asked.name,
            proof=measure.proof,
            able=", ".join(m.name for m in MEASURES.values() if m.proof not in off),
        )


def _require_scenario(recipe: Recipe, asked: _Asked, measure: Measure) -> None:
    """Refuse a measure of a scenario that is not asked for."""
    if measure.scenario is not None and recipe.benchmark.scenario(measure.scenario) is None:
        raise mistake(
            "scenario",
            "{where} asks for '{name}', which needs the scenario '{kind}' in benchmark.scenarios",
            where=asked.where,
            name=asked.name,
            kind=measure.scenario,
        )


def _require_interval(recipe: Recipe, asked: _Asked) -> None:
    """Refuse a bound of a metric that has no interval."""
    judge = METRICS.get(recipe.quality.metric)
    of_quality = asked.judged.startswith(("quality.", "robustness."))
    if of_quality and asked.judged.endswith(BOUNDS) and judge and not judge.has_interval:
        raise mistake(
            "interval",
            "{where} asks for '{name}', and '{metric}' has no 95 % interval: give the gate no "
            "confidence and a limit for '{value}'",
            where=asked.where,
            name=asked.judged,
            metric=recipe.quality.name,
            value=asked.judged.rpartition("_")[0],
        )


def _require_variants(recipe: Recipe, asked: _Asked, measure: Measure) -> None:
    """Refuse what needs a variant that the recipe has not."""
    if measure.name == _COVERAGE and not any(variant.passes for variant in recipe.variants):
        raise mistake(
            "compressed",
            "{where} asks for '{name}', but no variant has a pass that could be measured by it",
            where=asked.where,
            name=asked.name,
        )
    if measure.name == _RATIO_TO_UNCOMPRESSED and all(v.passes for v in recipe.variants):
        raise mistake(
            "uncompressed",
            "{where} asks for '{name}', but no variant is uncompressed: add one without passes, or "
            "ask for latency.ratio",
            where=asked.where,
            name=asked.name,
        )
