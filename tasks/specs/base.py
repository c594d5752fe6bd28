"""Base classes of specs (what steps are asked to do) and facts (what they find out)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from ...recipe.model import DataFactory, ModelFactory
from ...recipe.strict import Strict

#: Fields, as pydantic's `exclude` takes them.
Fields = dict[str, Any]


class Spec(Strict):
    """What a step is asked to do.

    Attributes:
        unkeyed: Fields that don't influence the result, and so are not in the cache key.
        placement: Fields that change how the work is computed, not what: the same work with another
            placement resumes from the same checkpoints.
    """

    unkeyed: ClassVar[Fields] = {}
    placement: ClassVar[Fields] = {}

    def identity(self) -> dict[str, Any]:
        """The part that is in the cache key, as JSON values."""
        return self.model_dump(mode="json", exclude=self.unkeyed)

    def lineage(self) -> dict[str, Any]:
        """Its identity, without its placement."""
        return self.model_dump(mode="json", exclude=_merged(self.unkeyed, self.placement))


class Judged(Spec):
    """A model, its data, and the metric.

    Attributes:
        model: The model.
        data: The data.
        metric: Name of the quality metric.
        metric_outputs: What a metric of the user's own gets: the main output, or all of them.
        seed: Of the splits.
    """

    model: ModelFactory
    data: DataFactory
    metric: str
    metric_outputs: Literal["main", "all"] = "main"
    seed: int


class ThroughRuntime(Judged):
    """A candidate, through the runtime that would serve it.

    Attributes:
        loader: Import path of the function that opens the candidate.
        environment: The isolated environment that the runtime needs, or None.
        options: Further options of the loader.
        processor: What the outputs depend on of the processor.
    """

    loader: str
    environment: str | None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    processor: dict[str, JsonValue] | None = None


class Facts(Strict):
    """What a step found out that later steps or the report need."""


def _merged(one: Fields, other: Fields) -> Fields:
    merged = dict(one)
    for name, value in other.items():
        both = isinstance(merged.get(name), set) and isinstance(value, set)
        merged[name] = merged[name] | value if both else value
    return merged
