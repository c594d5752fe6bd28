"""Decide: the gates, the recipe's own or the defaults. Pure functions of the measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..recipe.gates import Gate
from ..recipe.measures import bytes_in_words, find_measure, is_of_champion, mlflow_name
from ..recipe.schema import Recipe
from ..recipe.strict import Strict
from .todays_champion import TodaysChampion

#: Loss of quality that the default gates allow, as a share of the trained model's.
_USUAL_LOSS = 0.01
_PARITY = "parity.sqnr_db"


class GateResult(Strict):
    """The result of a gate for a candidate.

    Attributes:
        metric: The measure, with its batch size if it has one.
        bound: Whether `limit` is the highest or the lowest value that passes.
        limit: The recipe's limit.
        value: The measured value; None if there is none.
        margin: Distance to the limit (negative: failed by that much), in the measure's unit.
        passed: Whether it passed.
        default: Whether it holds without the recipe asking for it.
        said: Why it passed or failed, where the numbers don't say so.
        champion: The version that was the champion when the gate compared with it, `none` if there
            was none; None if the gate does not compare with the champion.
        alias: The alias that made that version the champion.
    """

    metric: str
    bound: Literal["at_most", "at_least"]
    limit: float
    value: float | None
    margin: float | None
    passed: bool
    default: bool = False
    said: str | None = None
    champion: str | None = None
    alias: str | None = None


class Compared(Strict):
    """How long a candidate takes, as a multiple of another one's time in the same rounds.

    Attributes:
        ratio: The median of all rounds.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
    """

    ratio: float
    low: float
    high: float

    @property
    def alike(self) -> bool:
        """Whether the two can't be told apart at 95 % confidence."""
        return self.low <= 1 <= self.high


@dataclass(frozen=True)
class Beside:
    """What a candidate is judged beside its own measurements.

    Attributes:
        baseline: Of the trained model in PyTorch eager, under MLflow's names.
        rounding_db: Of an uncompressed candidate: how near rounding leaves its outputs to the
            trained model's; None for a compressed one.
        champion: Today's champion, if the recipe compares with it.
        unmeasured: Why the candidate has no value of a measure, by the measure's name.
    """

    baseline: dict[str, float] = field(default_factory=dict)
    rounding_db: float | None = None
    champion: TodaysChampion | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)


def primary_batch(recipe: Recipe) -> int:
    """The batch size of names that have none: that of `select`, else the first timed."""
    return recipe.select.batch_size or recipe.benchmark.batch_sizes[0]


def metric_name(recipe: Recipe, measure: str, batch_size: int | None) -> str:
    """The MLflow name of a measure of a gate or of `select`."""
    name = mlflow_name(measure, recipe.quality.name)
    found = find_measure(measure)
    if found is None or not found.per_batch:
        return name
    size = batch_size or primary_batch(recipe)
    return name if size == primary_batch(recipe) else f"{name}_batch_{size}"


def gates_by(recipe: Recipe) -> Literal["recipe", "default", "none"]:
    """Whose gates a candidate must pass."""
    if isinstance(recipe.gates, str):
        return "none"
    return "recipe" if recipe.gates else "default"


def judge(
    recipe: Recipe, metrics: dict[str, float], beside: Beside | None = None
) -> tuple[GateResult, ...]:
    """The result of each gate: the recipe's, or the defaults if it has none.

    An uncompressed candidate must equal the trained model up to rounding, whatever the recipe's
    gates are; this is listed beside gates of the recipe's own only if it fails. A recipe that has a
    gate on `parity.sqnr_db` decides that itself.
    """
    if isinstance(recipe.gates, str):
        return ()
    around = beside or Beside()
    if not recipe.own_gates:
        return default_gates(recipe, metrics, around)
    own = tuple(_judge_gate(recipe, gate, metrics, around) for gate in recipe.own_gates)
    rounding = _rounding(metrics, around)
    decided = any(gate.metric == _PARITY for gate in recipe.own_gates)
    return own if rounding is None or rounding.passed or decided else (*own, rounding)


def _judge_gate(
    recipe: Recipe, gate: Gate, metrics: dict[str, float], around: Beside
) -> GateResult:
    upper = gate.at_most is not None
    limit = float(gate.at_most if gate.at_most is not None else gate.at_least or 0.0)
    batch = "" if gate.batch_size is None else f" (batch {gate.batch_size})"
    result = _compared(
        f"{gate.judged}{batch}",
        "at_most" if upper else "at_least",
        limit,
        metrics.get(metric_name(recipe, gate.judged, gate.batch_size)),
    )
    if not is_of_champion(gate.metric):
        reason = around.unmeasured.get(gate.metric)
        return result if result.value is not None else result.model_copy(update={"said": reason})
    champion = around.champion
    said = "today's champion was not looked up" if champion is None else champion.unmeasured
    first = champion is not None and champion.is_absent
    return result.model_copy(
        update={
            "champion": None if champion is None else champion.said,
            "alias": None if champion is None else champion.alias,
            "said": said if result.value is None else None,
            "passed": result.passed or first,
        }
    )


def _compared(
    metric: str, bound: Literal["at_most", "at_least"], limit: float, value: float | None
) -> GateResult:
    margin = None
    if value is not None:
        margin = limit - value if bound == "at_most" else value - limit
    passed = margin is not None and margin >= 0
    return GateResult(
        metric=metric, bound=bound, limit=limit, value=value, margin=margin, passed=passed
    )


def default_gates(
    recipe: Recipe, metrics: dict[str, float], beside: Beside
) -> tuple[GateResult, ...]:
    """The gates of a recipe that has none: quality, rounding, and slower as well as larger."""
    limit = usual_loss(recipe, beside.baseline)
    quality = _compared("quality.drop", "at_most", limit, metrics.get("quality/drop"))
    rounding = _rounding(metrics, beside)
    results = (quality, *(() if rounding is None else (rounding,)), _worth_it(metrics, beside))
    return tuple(result.model_copy(update={"default": True}) for result in results)


def usual_loss(recipe: Recipe, baseline: dict[str, float]) -> float:
    """The loss of quality that the default gates allow, in the metric's unit.

    It is the distance from the trained model's quality to the worse end of its 95 % interval, or
    1 % of the quality, whichever is larger.
    """
    name = mlflow_name("quality.value", recipe.quality.name)
    value = baseline.get(name, 0.0)
    worse = baseline.get(f"{name}_low" if recipe.quality.rises else f"{name}_high", value)
    return max(abs(value - worse), _USUAL_LOSS * abs(value))


def _rounding(metrics: dict[str, float], beside: Beside) -> GateResult | None:
    """Whether an uncompressed candidate's outputs are the trained model's; None for others."""
    if beside.rounding_db is None:
        return None
    found = metrics.get(mlflow_name(_PARITY))
    result = _compared(_PARITY, "at_least", beside.rounding_db, found)
    said = (
        None
        if result.passed
        else "nothing was compressed, so the runtime itself computes something else than the "
        "trained model"
    )
    return result.model_copy(update={"default": True, "said": said})


def _worth_it(metrics: dict[str, float], beside: Beside) -> GateResult:
    """Whether a candidate is faster or smaller than what it replaces: the champion, if it was
    measured beside it, else the trained model in PyTorch eager.
    """
    champion = beside.champion
    measured = champion is not None and bool(champion.metrics)
    held = champion.metrics if champion is not None and measured else beside.baseline
    what = "today's champion" if measured else "the trained model in PyTorch eager"
    measure = "latency.ratio_to_champion" if measured else "latency.ratio"
    value, high = (metrics.get(mlflow_name(name)) for name in (measure, f"{measure}_high"))
    size, held_size = metrics.get("size/bytes"), held.get("size/bytes")
    result = _compared(measure, "at_least", 1.0, value)
    if value is None or high is None or size is None or held_size is None:
        return result.model_copy(update={"passed": False})
    sizes = f"{bytes_in_words(size)}, {what} {bytes_in_words(held_size)}"
    if high >= 1:
        return result.model_copy(update={"passed": True})
    if size <= held_size:
        return result.model_copy(update={"passed": True, "said": f"slower, but no larger: {sizes}"})
    return result.model_copy(update={"said": f"slower, and larger too: {sizes}"})
