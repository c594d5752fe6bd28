"""Gates that a test split is too small ever to pass with certainty, told before anything runs."""

from __future__ import annotations

from ...recipe.gates import Gate
from ...recipe.measures import BOUNDS
from ...recipe.metrics import METRICS
from ...recipe.schema import Recipe

_LOW, _HIGH = BOUNDS


def unsure_gates(recipe: Recipe, samples: int | None) -> list[str]:
    """What to say of gates on bounds that need more test samples than there are.

    Args:
        recipe: The recipe.
        samples: Size of the test split; None: not known yet.
    """
    metric = METRICS.get(recipe.quality.metric)
    if metric is None or not metric.of_answers:  # the best possible interval is not known
        return []
    return [text for gate in recipe.own_gates if (text := _unsure(recipe, gate, samples))]


def _unsure(recipe: Recipe, gate: Gate, samples: int | None) -> str | None:
    from ...tasks.validate.interval import samples_to_say

    value = f"quality.{recipe.quality.name}"
    if gate.judged in (f"quality.value{_LOW}", f"{value}{_LOW}") and gate.at_least is not None:
        limit, needed = f"at least {gate.at_least:g}", samples_to_say("value", gate.at_least)
    elif gate.judged in _DROPS and gate.at_most is not None:
        limit, needed = f"at most {gate.at_most:g}", samples_to_say("drop", gate.at_most)
    else:
        return None
    said = f"the gate {gate.judged} {limit}"
    if needed is None:
        return f"{said} can't be passed with any test split: an interval has a width"
    if samples is None:
        return f"{said} needs a test split of at least {needed} samples"
    if samples >= needed:
        return None
    return (
        f"{said} can't be passed with this test split of {samples} samples, however good a "
        f"candidate is: {needed} samples would do"
    )


_DROPS = tuple(f"quality.{name}{_HIGH}" for name in ("drop", "drop_from_champion"))
