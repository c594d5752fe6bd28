"""What a candidate must reach, and which of those that do wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
    field_validator,
    model_validator,
)

from .measures import BOUNDS, MEASURES, described_measures, find_measure, measure_names
from .strict import Strict, mistake, one_of

#: Of every interval that is measured.
CONFIDENCE = 0.95


def measure_name(value: str) -> str:
    """The name of a measure, or `quality.NAME`, which the recipe compares with its own metric."""
    room, _, name = value.partition(".")
    if room == "quality" and name.isidentifier():
        return value
    return one_of(value, measure_names(), "measure")


def check_batch_size(metric: str, batch_size: int | None) -> None:
    measure = find_measure(metric)
    if batch_size is not None and (measure is None or not measure.per_batch):
        raise mistake("batch_size", "'{metric}' does not depend on the batch size", metric=metric)


def _check_confidence(metric: str, confidence: float) -> None:
    """Refuse `confidence` for what has no interval, and for a bound, which is one end of it."""
    if confidence != CONFIDENCE:
        raise mistake(
            "confidence",
            "confidence can only be {known}: intervals are measured at 95 %",
            known=CONFIDENCE,
        )
    measure = find_measure(metric)
    own = measure is None and not metric.endswith(BOUNDS)  # quality.METRIC
    if not own and (measure is None or not measure.has_interval or metric != measure.name):
        able = ", ".join(m.name for m in MEASURES.values() if m.has_interval)
        raise mistake(
            "confidence",
            "'{metric}' has no 95 % interval that confidence could ask for; these have one: {able}",
            metric=metric,
            able=able,
        )


class Gate(Strict):
    """A measure, and the limit that a candidate must meet."""

    metric: str = Field(
        description=f"One of: {described_measures()}; or quality.METRIC. Of those with a 95 % "
        "interval NAME_low and NAME_high too."
    )
    at_most: float | None = Field(None, description="Highest value that passes.")
    at_least: float | None = Field(None, description="Lowest value that passes.")
    batch_size: int | None = Field(
        None, ge=1, description="Batch size of a latency or throughput measure (samples)."
    )
    confidence: float | None = Field(
        None,
        description="0.95: the limit must hold for the bound of the 95 % interval, not only for "
        "the value. Of measures that have an interval.",
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        return measure_name(value)

    @model_validator(mode="after")
    def _one_limit(self) -> Gate:
        if (self.at_most is None) == (self.at_least is None):
            raise mistake("limit", "give either at_most or at_least")
        check_batch_size(self.metric, self.batch_size)
        if self.confidence is not None:
            _check_confidence(self.metric, self.confidence)
        return self

    @property
    def judged(self) -> str:
        """The measure that is compared with the limit: itself, or the bound of its interval."""
        if self.confidence is None:
            return self.metric
        return f"{self.metric}{BOUNDS[1] if self.at_most is not None else BOUNDS[0]}"


def _none_or_gates(value: Any, gates: ValidatorFunctionWrapHandler) -> Any:
    if value == NO_GATES:
        return value
    if not isinstance(value, list | tuple):
        raise mistake("gates", "gates are a list, or 'none'")
    return gates(tuple(value))  # a list would be refused, where it came from JSON


def _said_gates(value: Any, gates: SerializerFunctionWrapHandler) -> Any:
    return value if isinstance(value, str) else gates(value)


#: What turns the default gates off.
NO_GATES: Final = "none"
if TYPE_CHECKING:
    Gates = tuple[Gate, ...] | Literal["none"]
else:  # of a union, each mistake would be told once for each of its members
    Gates = Annotated[
        tuple[Gate, ...],
        WrapValidator(_none_or_gates, json_schema_input_type=tuple[Gate, ...] | Literal["none"]),
        WrapSerializer(_said_gates),
    ]


class Select(Strict):
    """Which candidate wins among those that pass every gate."""

    minimize: str | None = Field(None, description="The lowest value of this measure wins.")
    maximize: str | None = Field(None, description="The highest value of this measure wins.")
    batch_size: int | None = Field(
        None, ge=1, description="Batch size of a latency or throughput measure (samples)."
    )

    @field_validator("minimize", "maximize")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return None if value is None else measure_name(value)

    @model_validator(mode="after")
    def _one_aim(self) -> Select:
        if (self.minimize is None) == (self.maximize is None):
            raise mistake("aim", "give either minimize or maximize")
        check_batch_size(self.metric, self.batch_size)
        return self

    @property
    def metric(self) -> str:
        return str(self.minimize if self.minimize is not None else self.maximize)
