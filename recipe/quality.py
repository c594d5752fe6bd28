"""What 'good' means: the metric of a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .measures import find_measure, measure_names
from .metrics import METRICS
from .strict import IMPORT_PATH, NameOrPath, NamesCode, Strict, mistake, one_of, short_name

#: Names that are taken as `quality/NAME` in MLflow.
_NOT_A_METRIC = {
    name.partition(".")[2]
    for name in measure_names()
    if name.startswith("quality.") and find_measure(name) is not None
}


class Quality(Strict):
    """What 'good' means."""

    metric: NameOrPath = Field(
        "accuracy",
        description=f"One of: {', '.join(METRICS)}; or an import path 'module:name' of your own: a "
        "function (outputs, targets) -> number; or a class, an object or a module with "
        "per_sample(outputs, targets) and aggregate(statistics).",
    )
    higher_is_better: bool | None = Field(
        None, description="Of a metric of your own: whether a higher value is the better one."
    )
    outputs: Literal["main", "all"] = Field(
        "main",
        description="What a metric of your own gets as outputs: main, the one that model.output "
        "names, as an array; or all, a dictionary of arrays by name, the main one first.",
    )
    groups: Annotated[tuple[str, ...] | None, NamesCode(always=False)] = Field(
        None,
        description="Also measure the quality of each group: one or several of 'label', which "
        "groups by the target; the name of a column, of an entry of `Data.groups` or of an input; "
        "an import path 'module:function' of your own, from (inputs, target) of a sample to the "
        "name of its group.",
    )

    suspicious_gain: float = Field(
        0.05,
        gt=0,
        description="A candidate that is better than the trained model by more than this share of "
        "its quality, certainly, is suspicious: promotion auto then asks a person.",
    )

    @field_validator("groups", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) or None if isinstance(value, list | tuple) else value

    @field_validator("groups")
    @classmethod
    def _named_groups(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if ":" in name and re.fullmatch(IMPORT_PATH, name) is None:
                raise mistake("groups", "an import path looks like 'module:function'")
            if not name.strip():
                raise mistake("groups", "a group has no name")
        if len({*map(short_name, value or ())}) < len(value or ()):
            raise mistake("groups", "two groups have the same name")
        return value

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        if ":" not in value:
            return one_of(value, METRICS, "metric")
        if re.fullmatch(IMPORT_PATH, value) is None:
            raise mistake("metric", "an import path looks like 'module:name'")
        name = short_name(value)
        if name in _NOT_A_METRIC:
            raise mistake(
                "metric",
                "a metric can't be called '{name}': quality/{name} is a measure of Hone's",
                name=name,
            )
        return value

    @model_validator(mode="after")
    def _one_way_is_better(self) -> Quality:
        known = METRICS.get(self.metric)
        if known is None and self.higher_is_better is None:
            raise mistake(
                "metric",
                "say which way '{metric}' is better: higher_is_better: true, or false",
                metric=self.metric,
            )
        if known is not None and self.higher_is_better not in (None, known.higher_is_better):
            raise mistake(
                "metric",
                "of '{metric}' the {way} value is the better one: leave higher_is_better out",
                metric=self.metric,
                way="higher" if known.higher_is_better else "lower",
            )
        if self.outputs == "all" and known is not None:
            raise mistake(
                "outputs",
                "{metric} looks at one output: name a metric of your own (module:name)",
                metric=self.metric,
            )
        return self

    @property
    def name(self) -> str:
        """What the metric is called in MLflow and in tables."""
        return short_name(self.metric)

    @property
    def rises(self) -> bool:
        """Whether a higher value is the better one."""
        known = METRICS.get(self.metric)
        return bool(self.higher_is_better) if known is None else known.higher_is_better
