"""Reference and validate: what is evaluated, and through which runtime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from .base import Judged


class ReferenceSpec(Judged):
    """The trained model itself."""


class ValidateSpec(Judged):
    """Attributes:
    groups: Groups that are evaluated separately.
    higher_is_better: Direction of the metric.
    loader: Import path of the function that opens the candidate.
    environment: The isolated environment that the runtime needs, or None.
    options: Further options of the loader.
    processor: What the outputs depend on of the processor.
    """

    groups: Literal["label"] | None
    higher_is_better: bool
    loader: str
    environment: str | None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    processor: dict[str, JsonValue] | None = None
