"""The recipe: everything that a user asks for, in one frozen model.

YAML, TOML, Python and the form in the Prefect UI share these fields, so every field has a
description with its unit.
"""

from __future__ import annotations

import hashlib
import json
import re
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

from .errors import did_you_mean
from .limits import odd_value
from .measures import (
    BOUNDS,
    MEASURES,
    described_measures,
    find_measure,
    is_of_champion,
    measure_names,
)
from .metrics import LOSSES, METRICS
from .model import DataFactory, ModelFactory
from .passes import Pass
from .registry_names import (
    ALIAS,
    LONGEST_ALIAS,
    LONGEST_MODEL,
    MODEL,
    alias_problem,
    model_problem,
)
from .strict import IMPORT_PATH, NameOrPath, Strict, import_paths, mistake, short_name
from .targets import Target, expanded
from .training import Train

#: Names that are taken as `quality/NAME` in MLflow.
_NOT_A_METRIC = {
    name.partition(".")[2]
    for name in measure_names()
    if name.startswith("quality.") and find_measure(name) is not None
}
_COVERAGE = "coverage.fraction"
_RATIO_TO_UNCOMPRESSED = "latency.ratio_to_uncompressed"
_NAME = r"^[a-z0-9][a-z0-9_-]*$"
#: Names are joined in MLflow's and in files' names, which have at most 250 characters.
_LONGEST = 100


def _one_of(value: str, known: Any, what: str) -> str:
    if value not in known:
        raise mistake(
            "unknown_name",
            "there is no {what} '{value}': {hint}",
            what=what,
            value=value,
            hint=did_you_mean(value, known),
        )
    return value


def _measure(value: str) -> str:
    """The name of a measure, or `quality.NAME`, which the recipe compares with its own metric."""
    room, _, name = value.partition(".")
    if room == "quality" and name.isidentifier():
        return value
    return _one_of(value, measure_names(), "measure")


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise mistake("twice", "the {what} '{name}' is defined twice", what=what, name=name)


def _check_batch_size(metric: str, batch_size: int | None) -> None:
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
    groups: Literal["label"] | None = Field(
        None, description="Also measure the quality of each group; 'label' groups by the target."
    )

    suspicious_gain: float = Field(
        0.05,
        gt=0,
        description="A candidate that is better than the trained model by more than this share of "
        "its quality, certainly, is suspicious: promotion auto then asks a person.",
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        if ":" not in value:
            return _one_of(value, METRICS, "metric")
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


class Variant(Strict):
    """A named chain of passes."""

    name: str = Field(pattern=_NAME, max_length=_LONGEST, description="Name of the variant.")
    passes: tuple[Pass, ...] = Field((), description="Passes, in order; empty: uncompressed.")

    @model_validator(mode="after")
    def _order(self) -> Variant:
        seen_graph: str | None = None
        kinds: list[str] = []
        for step in self.passes:
            if step.works_on == "module" and seen_graph is not None:
                raise mistake(
                    "order",
                    "'{late}' works on the torch module and can't follow '{early}', which works "
                    "on the exported graph: put '{late}' first",
                    late=step.name,
                    early=seen_graph,
                )
            if step.works_on == "graph":
                seen_graph = step.name
            if step.kind in kinds and not step.repeatable:
                raise mistake("order", "'{kind}' can appear only once in a chain", kind=step.kind)
            kinds.append(step.kind)
        return self


class Benchmark(Strict):
    """How candidates are timed."""

    batch_sizes: tuple[int, ...] = Field(
        (1,), min_length=1, description="Batch sizes to time (samples per call)."
    )
    threads: int = Field(
        1,
        ge=1,
        description="Threads per runtime; on a shared machine use one fewer than its cores.",
    )
    seconds: float = Field(
        2.0, gt=0, le=600, description="Timing budget per candidate and batch size (s)."
    )
    launches: int = Field(
        4,
        ge=2,
        le=8,
        description="Process launches per candidate (a count): memory placement changes speed by "
        "1 to 3 percent per launch. Fewer are quicker, with wider intervals.",
    )

    @field_validator("batch_sizes")
    @classmethod
    def _sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value) or len(set(value)) != len(value):
            raise mistake("batch_sizes", "batch sizes must be at least 1, without duplicates")
        return value


#: Of every interval that is measured.
CONFIDENCE = 0.95


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
        return _measure(value)

    @model_validator(mode="after")
    def _one_limit(self) -> Gate:
        if (self.at_most is None) == (self.at_least is None):
            raise mistake("limit", "give either at_most or at_least")
        _check_batch_size(self.metric, self.batch_size)
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
        return None if value is None else _measure(value)

    @model_validator(mode="after")
    def _one_aim(self) -> Select:
        if (self.minimize is None) == (self.maximize is None):
            raise mistake("aim", "give either minimize or maximize")
        _check_batch_size(self.metric, self.batch_size)
        return self

    @property
    def metric(self) -> str:
        return str(self.minimize if self.minimize is not None else self.maximize)


class Registry(Strict):
    """Where the winner goes in the MLflow model registry."""

    model: str = Field(
        min_length=1,
        max_length=LONGEST_MODEL,
        pattern=MODEL,
        description="Name of the registered model.",
    )
    alias: str = Field(
        "champion",
        max_length=LONGEST_ALIAS,
        pattern=ALIAS,
        description="Alias for the winner; the replaced version gets the alias 'previous'.",
    )
    proof: Literal["inputs", "synthetic", "off"] = Field(
        "inputs",
        description="Inputs that a model carries, with the outputs that were measured for them, to "
        "prove itself where it is loaded: 'inputs' are 8 rows of the test data; 'synthetic' are "
        "random ones, so no data leave with the model; 'off' carries none, and no example.",
    )

    @field_validator("model")
    @classmethod
    def _named(cls, value: str) -> str:
        if problem := model_problem(value):
            raise mistake("model", "the name '{name}' {problem}", name=value, problem=problem)
        return value

    @field_validator("alias")
    @classmethod
    def _free(cls, value: str) -> str:
        if problem := alias_problem(value):
            raise mistake("alias", "the alias '{alias}' {problem}", alias=value, problem=problem)
        return value


#: What is done with the winner.
PromotionMode = Literal["off", "dry-run", "approve", "auto"]


class Timeouts(Strict):
    """How long a step may take before it is stopped."""

    train: float = Field(86_400, gt=0, description="Training (s).")
    step: float = Field(1_800, gt=0, description="Every other step (s).")


class Recipe(Strict):
    """What a user asks for: model, data, variants, targets, gates, and where the winner goes."""

    name: str = Field(
        pattern=_NAME,
        max_length=_LONGEST,
        description="Name of the recipe, and of its MLflow experiment.",
    )
    code: str | None = Field(
        None,
        description="Your code folder, shipped to the workers and put on their import path; "
        "only for a recipe file run from the command line.",
    )
    code_files: tuple[str, ...] = Field(
        (),
        description="Data files in the code folder that are shipped with the modules although "
        "neither they nor the recipe's arguments name them: paths in it, with `*`.",
    )
    model: ModelFactory = Field(description="The model, and its weights if any.")
    data: DataFactory = Field(description="The factory of the data.")
    quality: Quality = Field(Quality(), description="What 'good' means.")
    train: Train = Field(description="How to train.")
    variants: tuple[Variant, ...] = Field(
        (Variant(name="fp32"),), min_length=1, description="Variants to create."
    )
    targets: tuple[Target, ...] = Field(
        min_length=1, description="Runtimes to compile each variant for."
    )
    benchmark: Benchmark = Field(Benchmark(), description="How to benchmark.")
    gates: Gates = Field(
        (),
        description="Limits that a winner must meet. Without any, the defaults hold: quality lost "
        "at most the half-width of the trained model's 95 % interval or 1 %, whichever is more; an "
        "uncompressed candidate within rounding of the trained model; nothing slower and larger "
        "than the trained model in PyTorch eager. 'none' turns all of them off.",
    )
    select: Select = Field(
        Select(minimize="latency.p50_ms"), description="Which candidate wins among those that pass."
    )
    registry: Registry = Field(description="Where the winner is registered.")
    promotion: PromotionMode = Field(
        "auto",
        description="What to do with the winner: 'off' registers nothing; 'dry-run' registers it "
        "and tags what a promotion would do; 'approve' registers it and asks a person; 'auto' "
        "moves the alias.",
    )
    timeouts: Timeouts = Field(Timeouts(), description="Time limits of steps.")

    @model_validator(mode="after")
    def _ordinary(self) -> Recipe:
        """Refuse what no recipe has, also where it did not come as text."""
        odd = odd_value(self)
        if odd is not None:
            where = ".".join(map(str, odd[0])) or "recipe"
            raise mistake("value", "{where}: {said}", where=where[:200], said=odd[1])
        return self

    @field_validator("targets", mode="before")
    @classmethod
    def _tried(cls, value: Any) -> Any:
        return expanded(value)

    @field_validator("train")
    @classmethod
    def _known_loss(cls, value: Train) -> Train:
        if ":" not in value.loss:
            _one_of(value.loss, LOSSES, "loss")
        elif re.fullmatch(IMPORT_PATH, value.loss) is None:
            raise mistake("loss", "an import path looks like 'module:function'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        _unique("variant", [v.name for v in self.variants])
        _unique("target", [t.name for t in self.targets])
        sizes = self.benchmark.batch_sizes
        for what, size in [
            *((f"gates.{i}", g.batch_size) for i, g in enumerate(self.own_gates)),
            ("select", self.select.batch_size),
        ]:
            if size is not None and size not in sizes:
                raise mistake(
                    "batch_size",
                    "{what} asks for batch size {size}, which benchmark.batch_sizes {sizes} "
                    "does not time",
                    what=what,
                    size=size,
                    sizes=list(sizes),
                )
        for i, name in enumerate([*(g.metric for g in self.own_gates), self.select.metric]):
            where = f"gates.{i}" if i < len(self.own_gates) else "select"
            measure = find_measure(name)
            judge = METRICS.get(self.quality.metric)
            if measure is not None and measure.of_answers and judge and not judge.of_answers:
                raise mistake(
                    "answers",
                    "{where} asks for '{name}', which counts right and wrong answers, and "
                    "{metric} has none: it needs one of {able}, or a metric of your own",
                    where=where,
                    name=name,
                    metric=self.quality.name,
                    able=", ".join(n for n, m in METRICS.items() if m.of_answers),
                )
            if measure is not None and measure.of_classes and judge and not judge.of_classes:
                raise mistake(
                    "classes",
                    "{where} asks for '{name}', which compares classes, and {metric} judges none: "
                    "parity.sqnr_db compares outputs of any kind",
                    where=where,
                    name=name,
                    metric=self.quality.name,
                )
            self._require_interval(where, i)
            if measure is not None and measure.name == _RATIO_TO_UNCOMPRESSED:
                self._require_uncompressed(where, name)
            if measure is not None and measure.name == _COVERAGE:
                self._require_compressed(where, name)
            if measure is not None and measure.by_group and self.quality.groups is None:
                raise mistake(
                    "groups",
                    "{where} asks for '{name}', which needs quality.groups",
                    where=where,
                    name=name,
                )
            own = {f"quality.{self.quality.name}{bound}" for bound in ("", *BOUNDS)}
            if name.startswith("quality.") and measure is None and name not in own:
                raise mistake(
                    "quality",
                    "{where} asks for '{name}', but quality.metric is '{metric}': this run "
                    "measures {able}",
                    able=", ".join(
                        [
                            f"quality.{self.quality.name}",
                            *(n for n in MEASURES if n[:8] == "quality."),
                        ]
                    ),
                    where=where,
                    name=name,
                    metric=self.quality.name,
                )
        return self

    def _require_interval(self, where: str, index: int) -> None:
        """Refuse a gate or `select` on a bound of a metric that has no interval."""
        gates = self.own_gates
        asked = gates[index].judged if index < len(gates) else self.select.metric
        judge = METRICS.get(self.quality.metric)
        of_quality = asked.startswith("quality.") and asked.endswith(BOUNDS)
        if of_quality and judge is not None and not judge.has_interval:
            raise mistake(
                "interval",
                "{where} asks for '{name}', and '{metric}' has no 95 % interval: give the gate no "
                "confidence and a limit for '{value}'",
                where=where,
                name=asked,
                metric=self.quality.name,
                value=asked.rpartition("_")[0],
            )

    def _require_compressed(self, where: str, name: str) -> None:
        if not any(variant.passes for variant in self.variants):
            raise mistake(
                "compressed",
                "{where} asks for '{name}', but no variant has a pass that could be measured by it",
                where=where,
                name=name,
            )

    def _require_uncompressed(self, where: str, name: str) -> None:
        if all(variant.passes for variant in self.variants):
            raise mistake(
                "uncompressed",
                "{where} asks for '{name}', but no variant is uncompressed: add one without "
                "passes, or ask for latency.ratio",
                where=where,
                name=name,
            )

    @property
    def own_gates(self) -> tuple[Gate, ...]:
        """The gates that it names itself."""
        return () if isinstance(self.gates, str) else self.gates

    @property
    def compares_with_champion(self) -> bool:
        """Whether a gate or `select` names a measure that compares with today's champion."""
        asked = [*(gate.metric for gate in self.own_gates), self.select.metric]
        return any(map(is_of_champion, asked))

    def factories(self) -> list[tuple[str, str]]:
        """Every import path in it, with the field that it is in."""
        return list(import_paths(self))

    def digest(self) -> str:
        """sha256 of all fields but `promotion`; the same in every process, in whatever order they
        were given.

        Who moves the alias changes nothing of what was measured.
        """
        fields = self.model_dump(mode="json", exclude={"promotion"})
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def __hash__(self) -> int:
        return int(self.digest()[:15], 16)
