"""Names that a recipe may use for measures: one line each.

A measure is anything measured of a candidate. Its line defines the name that gates and `select`
use, its name in MLflow, and its column in the table. To add one, add a line here and the code that
measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .metrics import METRICS


def milliseconds(value: float) -> str:
    """Three decimals, and three significant digits where these say too little."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:#.3g}"


def bytes_in_words(count: float) -> str:
    """Bytes in a human-readable unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} B"


@dataclass(frozen=True)
class Measure:
    """Something measured of every candidate; gates and `select` can name it.

    In MLflow its name has `/` for the dot, and ends in `_batch_SIZE` for batch sizes other than
    the main one. The bounds of its 95 % interval are `NAME_low` and `NAME_high`, everywhere.

    Attributes:
        name: Its name in a recipe.
        unit: What the number counts.
        higher_is_better: Its direction; None: that of the recipe's metric.
        per_batch: Whether it is measured for each batch size.
        by_group: Whether it needs the recipe's groups.
        has_interval: Whether its 95 % interval is measured too.
        header: Header of its column in the table of candidates; None: no column.
        format: How the table shows it.
        shows_interval: Whether the table shows its interval.
        from_width: Smallest terminal width that shows the column (characters).
        of_median: Whether it follows from the median duration of a call, so that the rounds of a
            benchmark tell whether two candidates differ in it.
        of_answers: Whether it needs a metric of right and wrong answers.
        of_classes: Whether it needs a metric of classes.
        without_champion: Of a measure that compares with today's champion: the one that orders
            candidates the same way where there is no champion; None: it compares with none.
        proof: The switch of `proofs` that turns it off.
        scenario: The scenario of the benchmark that measures it, if it is not the single stream.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    per_batch: bool = False
    by_group: bool = False
    has_interval: bool = False
    header: str | None = None
    format: Callable[[float], str] = "{:.4g}".format
    shows_interval: bool = True
    from_width: int = 0
    of_median: bool = False
    of_answers: bool = False
    of_classes: bool = False
    without_champion: str | None = None
    proof: str | None = None
    scenario: str | None = None

    def mlflow(self, metric: str) -> str:
        """Its name in MLflow, where the recipe's metric is called `metric`."""
        return mlflow_name(self.name, metric)

    @property
    def is_of_champion(self) -> bool:
        """Whether it compares with today's champion, measured in the same run."""
        return self.without_champion is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and those of its bounds."""
        bounds = tuple(f"{self.name}{bound}" for bound in BOUNDS) if self.has_interval else ()
        return (self.name, *bounds)


BOUNDS = ("_low", "_high")
#: The recipe's own metric, which can also be named directly (`quality.accuracy`).
_VALUE = "quality.value"

#: Every measure, one line each, in the order of the table's columns.
MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(_VALUE, "the metric's", None, has_interval=True,
                header="quality", format="{:.4f}".format, from_width=120),
        Measure("quality.drop", "the metric's", False, has_interval=True,
                header="drop", format="{:+.4f}".format, shows_interval=False, from_width=120),
        Measure("quality.drop_from_champion", "the metric's", False, has_interval=True,
                header="drop from champion", format="{:+.4f}".format, shows_interval=False,
                from_width=120, without_champion="quality.drop"),
        Measure("quality.worst_group", "the metric's", None, by_group=True, has_interval=True,
                proof="groups"),
        Measure("quality.worst_group_drop", "the metric's", False, by_group=True,
                has_interval=True, proof="groups"),
        Measure("flips.rate", "fraction of samples", False, has_interval=True, of_answers=True,
                proof="flips"),
        Measure("flips.wrong_rate", "fraction of samples", False, has_interval=True,
                of_answers=True, proof="flips"),
        Measure("flips.kl_divergence", "nats an answer", False, has_interval=True, of_classes=True,
                proof="flips"),
        Measure("flips.same_top", "fraction of answers", True, has_interval=True, of_classes=True,
                proof="flips"),
        Measure("robustness.worst_drop", "the metric's", False, has_interval=True,
                proof="robustness"),
        Measure("robustness.mean_drop", "the metric's", False, has_interval=True,
                proof="robustness"),
        Measure("explanation.agreement", "rank correlation", True, has_interval=True,
                proof="explanation"),
        Measure("explanation.top_overlap", "fraction of regions", True, has_interval=True,
                proof="explanation"),
        Measure("latency.p50_ms", "ms a call", False, per_batch=True, has_interval=True,
                header="p50 (ms)", format=milliseconds, of_median=True),
        Measure("latency.p90_ms", "ms a call", False, per_batch=True),
        Measure("latency.p99_ms", "ms a call", False, per_batch=True,
                header="p99 (ms)", format=milliseconds, from_width=160),
        Measure("latency.calls", "calls that were timed", True, per_batch=True),
        Measure("latency.ratio", "times faster than PyTorch eager", True, per_batch=True,
                has_interval=True, header="× eager", format="{:.2f}".format, of_median=True),
        Measure("latency.ratio_to_uncompressed", "times faster than the best uncompressed", True,
                per_batch=True, has_interval=True, header="× best uncompressed",
                format="{:.2f}".format, from_width=160, of_median=True),
        Measure("latency.ratio_to_champion", "times faster than today's champion", True,
                per_batch=True, has_interval=True, header="× champion", format="{:.2f}".format,
                of_median=True, without_champion="latency.ratio"),
        Measure("throughput.samples_per_s", "samples a second", True, per_batch=True,
                of_median=True),
        Measure("offline.samples_per_s", "samples a second, all there at once", True,
                has_interval=True, header="offline/s", format="{:,.0f}".format,
                scenario="offline"),
        Measure("server.queries_per_s", "queries a second that hold the bound of p99", True,
                has_interval=True, header="server/s", format="{:,.0f}".format, scenario="server"),
        Measure("server.p99_ms", "ms a query at that rate", False, scenario="server"),
        Measure("size.bytes", "bytes of files", False,
                header="size", format=bytes_in_words, from_width=120),
        Measure("size.ratio", "times smaller than the trained weights", True),
        Measure("size.ratio_to_champion", "times smaller than today's champion", True,
                without_champion="size.ratio"),
        Measure("memory.peak_bytes", "bytes of memory, at most", False),
        Measure("memory.gpu_bytes", "bytes of memory of GPUs", False),
        Measure("cold_start.load_s", "s from a process's start to the loaded model", False),
        Measure("cold_start.first_answer_s", "s from a process's start to its first answer", False),
        Measure("energy.joules_per_sample", "J that the machine takes for a sample", False,
                per_batch=True),
        Measure("parity.sqnr_db", "dB", True,
                header="SQNR", format="{:.0f} dB".format, from_width=160),
        Measure("parity.cosine", "cosine of outputs", True),
        Measure("parity.max_abs_error", "the output's", False),
        Measure("coverage.fraction", "share of the layers' weights that each pass changed", True),
    )
}  # fmt: skip


def mlflow_name(name: str, metric: str = "value") -> str:
    """The name in MLflow of a measure or of a bound of one.

    Args:
        name: As a recipe names it.
        metric: What the recipe's metric is called, which `quality.value` stands for.
    """
    if name in MEASURES[_VALUE].names:
        name = f"quality.{metric}{name.removeprefix(_VALUE)}"
    return name.replace(".", "/", 1)


def find_measure(name: str) -> Measure | None:
    """The measure with a name, or with a bound of that name; None if there is none."""
    return _BY_NAME.get(name)


def is_of_champion(name: str) -> bool:
    """Whether the measure with a name, or a bound of that name, compares with the champion."""
    measure = find_measure(name)
    return measure is not None and measure.is_of_champion


def is_timed(name: str) -> bool:
    """Whether the measure with a name, or a bound of that name, is taken with a clock: by the
    rounds of the benchmark or in a scenario.
    """
    measure = find_measure(name)
    return measure is not None and (measure.per_batch or measure.scenario is not None)


def is_per_batch(name: str) -> bool:
    """Whether the measure with a name, or a bound of that name, depends on the batch size."""
    measure = find_measure(name)
    return measure is not None and measure.per_batch


def measure_names() -> tuple[str, ...]:
    """Every name that a gate can use, with `quality.NAME` for each metric."""
    return (*_BY_NAME, *(f"quality.{name}" for name in METRICS))


def described_measures() -> str:
    """All measures with unit and direction, for the description of a field."""
    ways = {True: ", higher is better", False: ", lower is better", None: ""}
    return "; ".join(f"{m.name} ({m.unit}{ways[m.higher_is_better]})" for m in MEASURES.values())


_BY_NAME = {name: measure for measure in MEASURES.values() for name in measure.names}
