"""Names that a recipe may use for metrics, losses, optimizers: one line each.

A metric is a file in `ray_workers/metrics/`; its line here says which way is better and in what
unit it is, so that a recipe can be checked without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A measure of quality.

    Attributes:
        higher_is_better: Which way is good.
        unit: What the number counts, for tables and descriptions.
    """

    higher_is_better: bool
    unit: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric(higher_is_better=True, unit="fraction of samples"),
    "f1_macro": Metric(higher_is_better=True, unit="0 to 1"),
    "cross_entropy": Metric(higher_is_better=False, unit="nats a sample"),
    "bits_per_token": Metric(higher_is_better=False, unit="bits a token"),
    "mae": Metric(higher_is_better=False, unit="the target's unit"),
    "rmse": Metric(higher_is_better=False, unit="the target's unit"),
    "r2": Metric(higher_is_better=True, unit="at most 1"),
}

LOSSES: tuple[str, ...] = ("cross_entropy", "mse", "l1", "huber", "bce_with_logits")

#: Metrics that a gate or `select` can name, and whether they are measured per batch size.
MEASURES: dict[str, bool] = {
    "quality.drop": False,
    "quality.value": False,
    "quality.worst_group": False,
    "quality.worst_group_drop": False,
    "parity.max_abs_error": False,
    "parity.cosine": False,
    "parity.sqnr_db": False,
    "size.bytes": False,
    "size.ratio": False,
    "latency.p50_ms": True,
    "latency.p90_ms": True,
    "latency.p99_ms": True,
    "latency.ratio": True,
    "latency.ratio_low": True,
    "latency.ratio_to_uncompressed": True,
    "throughput.samples_per_s": True,
    "memory.peak_bytes": False,
}


def measure_names() -> tuple[str, ...]:
    """Every name that a gate can use, with `quality.NAME` for each metric."""
    return (*MEASURES, *(f"quality.{name}" for name in METRICS))
