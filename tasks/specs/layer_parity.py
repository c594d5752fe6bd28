"""Layer parity: what is compared, and what was found for each layer."""

from __future__ import annotations

from pydantic import JsonValue

from ...recipe.strict import Strict
from .base import Facts, Spec


class LayerParitySpec(Spec):
    """Attributes:
    processor: What the outputs depend on of the processor.
    """

    processor: dict[str, JsonValue]


class LayerParity(Strict):
    """A layer of a compressed graph beside the same one of the exported graph.

    Attributes:
        layer: Its name.
        sqnr_db: Signal-to-noise ratio of its output (dB).
        before_db: The least of those of the layers that it takes its inputs from (dB).
    """

    layer: str
    sqnr_db: float
    before_db: float

    def __str__(self) -> str:
        came = "exact inputs" if self.before_db >= 100 else f"inputs of {self.before_db:.0f} dB"
        return f"layer {self.layer}: {self.sqnr_db:.0f} dB from {came}"


class LayerParityFacts(Facts):
    """Attributes:
    layers: In the order of the graph.
    departs_at: The layer that loses most, if it loses much.
    """

    layers: tuple[LayerParity, ...] = ()
    departs_at: str | None = None
