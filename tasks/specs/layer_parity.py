"""Layer parity: what is compared, and what was found for each layer."""

from __future__ import annotations

from pydantic import JsonValue

from ...recipe.strict import Strict
from .base import Facts, Spec

#: A layer whose outputs are this good (dB) is as good as exact, and so is one that is better.
_AS_GOOD_AS_EXACT = 50.0


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
        after_db: The least of those of the layers that take its output (dB); None: there are none.
    """

    layer: str
    sqnr_db: float
    before_db: float
    after_db: float | None = None

    @property
    def kept_db(self) -> float:
        """Its SQNR, or that of the layers after it, if it is better (dB).

        A mask of -1e9 is -65504 in fp16, and the softmax that follows gives the same.
        """
        return self.sqnr_db if self.after_db is None else max(self.sqnr_db, self.after_db)

    @property
    def lost_db(self) -> float:
        """What it loses (dB); nothing counts that is above exact or below nothing left."""
        return min(_AS_GOOD_AS_EXACT, self.before_db) - max(0.0, self.kept_db)

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
