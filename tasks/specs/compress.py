"""Compress: a pass on the torch module or on the exported graph, and what it did."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from ...recipe.passes import Pass
from ...recipe.training import Train
from .base import Facts, Fields, Judged, Spec
from .train import PATIENCE, PLACEMENT


class ModulePassSpec(Judged):
    """A pass on the torch module; it may train.

    Attributes:
        compression: The pass.
        label: Prefix of its training's metrics (`slim/prune`).
        train: The recipe's training.
        higher_is_better: Direction of the metric.
    """

    unkeyed: ClassVar[Fields] = {**PATIENCE, "label": True}
    placement: ClassVar[Fields] = PLACEMENT

    compression: Pass
    label: str
    train: Train
    higher_is_better: bool


class Judge(Judged):
    """How a pass measures quality on the validation split.

    Attributes:
        higher_is_better: Direction of the metric.
        runtimes: Those that will serve the graph; the worst of them counts.
    """

    higher_is_better: bool
    runtimes: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime",)


class GraphPassSpec(Spec):
    """A pass on the exported graph.

    Attributes:
        compression: The pass.
        processor: What it depends on of the processor; None if it doesn't.
        judge: For a pass that looks at the validation split.
    """

    compression: Pass
    processor: dict[str, JsonValue] | None = None
    judge: Judge | None = None


class LayerCoverage(Facts):
    """What a pass did with a layer that it could have changed.

    Attributes:
        layer: Its name.
        operator: Its operator in the graph, or its class.
        weights: A count; 0 for a product of two activations.
        left_because: Why it was left as it was; None: it was changed.
    """

    layer: str
    operator: str
    weights: int
    left_because: str | None = None


class Coverage(Facts):
    """What a pass did with all layers that it could have changed.

    Attributes:
        layers: Each of them.
        expected_bytes: Size with every layer changed; 0: not computed.
        bytes: Size that came.
    """

    layers: tuple[LayerCoverage, ...] = ()
    expected_bytes: int = 0
    bytes: int = 0

    @property
    def done(self) -> tuple[LayerCoverage, ...]:
        return tuple(layer for layer in self.layers if layer.left_because is None)

    @property
    def left(self) -> tuple[LayerCoverage, ...]:
        return tuple(layer for layer in self.layers if layer.left_because is not None)

    @property
    def fraction(self) -> float:
        """Share of the layers' weights that was changed; of the layers, if none has weights."""
        whole = sum(layer.weights for layer in self.layers)
        if not whole:
            return len(self.done) / max(1, len(self.layers))
        return sum(layer.weights for layer in self.done) / whole


class LayerFact(Facts):
    """A layer's parameters, zeros (counts) and bytes."""

    parameters: int
    zeros: int
    bytes: int


class LayerChange(Facts):
    """A layer before and after a pass; None if it did not or does not exist."""

    before: LayerFact | None
    after: LayerFact | None


class ModulePassFacts(Facts):
    """Attributes:
    layers: What changed, by layer.
    ranks: The rank of each factorized layer.
    coverage: What was done with each layer; None: the pass does not say.
    """

    layers: dict[str, LayerChange] = Field(default_factory=dict)
    ranks: dict[str, int] = Field(default_factory=dict)
    coverage: Coverage | None = None


class QuantizeFacts(Facts):
    """Attributes:
    left_in_float: Layer and operator of everything that is not quantized.
    sensitivity_db: SQNR of the outputs with only this layer quantized (dB), by layer.
    coverage: What was done with each layer; None: the pass does not say.
    """

    left_in_float: tuple[tuple[str, str], ...] = ()
    sensitivity_db: dict[str, float] = Field(default_factory=dict)
    coverage: Coverage | None = None
