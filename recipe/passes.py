"""Passes: one compression step each, as a recipe asks for it.

A pass works either on the torch module (prune, distil: before the export) or on the exported
graph (after it). `works_on` tells them apart, and a chain in the wrong order is refused here.
The work itself is in `tasks/compress/KIND.py`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .strict import Strict

WorksOn = Literal["module", "graph"]


class Quantize(Strict):
    """Weights and activations in 8-bit integers, with ranges measured on calibration data."""

    works_on: ClassVar[WorksOn] = "graph"
    repeatable: ClassVar[bool] = False

    kind: Literal["quantize"] = Field(description="This pass quantizes.")
    scheme: Literal["static-int8"] = Field(
        "static-int8",
        description="static-int8: weights and activations in int8, ranges fixed beforehand.",
    )
    calibration: Literal["minmax", "percentile"] = Field(
        "minmax", description="How the range of an activation is found on the calibration split."
    )
    percentile: float = Field(
        99.99,
        gt=50,
        le=100,
        description="Of calibration 'percentile': share of the values that the range holds (%).",
    )
    samples: int = Field(
        256, ge=1, le=100_000, description="Calibration samples used at most (a count)."
    )
    per_channel: bool = Field(
        True, description="A scale for each output channel of a weight, instead of one."
    )
    activations: Literal["u8", "s8"] = Field(
        "u8", description="Type of the quantized activations; u8 is the faster one on most CPUs."
    )
    skip_layers: tuple[str, ...] = Field(
        (), description="Layers to leave in floating point, by their name in the torch module."
    )


Pass = Quantize
