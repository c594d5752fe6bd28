"""Reference and validate: what is judged, and through which runtime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from .base import Judged


class ReferenceSpec(Judged):
    """The trained model itself."""


class ValidateSpec(Judged):
    """Attributes:
    groups: Which groups are judged by themselves.
    higher_is_better: Which way the metric is good.
    loader: Import path of what opens the candidate.
    environment: The environment of its own that the runtime needs, or None.
    options: What else the loader needs to know.
    processor: What of the processor the outputs depend on.
    """

    groups: Literal["label"] | None
    higher_is_better: bool
    loader: str
    environment: str | None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    processor: dict[str, JsonValue] | None = None
