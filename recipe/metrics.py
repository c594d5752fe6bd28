"""Names that a recipe may use for metrics and losses: one line each.

A metric is a file in `ray_workers/metrics/`; its line here gives its direction, its unit and
what it takes, so that a recipe can be checked without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A measure of quality.

    Attributes:
        higher_is_better: Which way is good.
        unit: What the number counts, for tables and descriptions.
        takes: Outputs and targets that it judges.
        file: Of `ray_workers/metrics/`, if it is not called like the metric.
        option: What its file's `variant` is called with; None: the file itself is the metric.
        of_answers: Whether it is a share of samples whose answer is right.
        of_labels: Whether it takes targets of the outputs' shape for labels of their own.
        has_interval: Whether its 95 % interval is measured, and that of its drop.
    """

    higher_is_better: bool
    unit: str
    takes: str
    file: str | None = None
    option: str | int | float | None = None
    of_answers: bool = False
    of_labels: bool = False
    has_interval: bool = True

    @property
    def of_classes(self) -> bool:
        """Whether outputs are logits of classes or labels."""
        return self.takes.startswith("logits")


_CLASSES = "logits (N, C), classes (N,)"
_POSITIONS = "logits (N, C, ...) or (N, T, C), classes (N, ...); -100 does not count"
_LABELS = f"{_POSITIONS}; or logits and labels 0/1, both (N, C, ...)"
_NUMBERS = "numbers, both (N, ...)"
_MASKS = "logits (N, C, H, W), classes (N, H, W); or logits and masks 0/1, both (N, C, H, W)"
_VECTORS = "vectors, both (N, D)"
_TOKENS = "logits (N, T, C), tokens (N, T); -100 does not count"
_ONE = "or one logit and label 0/1, both (N, 1)"
_BOXES = (
    "boxes (N, K, 6) of x1, y1, x2, y2, score, class; targets (N, M, 5) of x1, y1, x2, y2, class"
)

METRICS: dict[str, Metric] = {
    "accuracy": Metric(True, "fraction of samples", _LABELS, of_answers=True, of_labels=True),
    "balanced_accuracy": Metric(True, "mean recall of the classes", f"{_POSITIONS}; {_ONE}"),
    "top3_accuracy": Metric(True, "fraction of samples", _POSITIONS, "top_k", 3, of_answers=True),
    "top5_accuracy": Metric(True, "fraction of samples", _POSITIONS, "top_k", 5, of_answers=True),
    "top10_accuracy": Metric(True, "fraction of samples", _POSITIONS, "top_k", 10, of_answers=True),
    "f1_macro": Metric(True, "0 to 1", _LABELS, "f1", "macro", of_labels=True),
    "f1_micro": Metric(True, "0 to 1", _LABELS, "f1", "micro", of_labels=True),
    "f1_weighted": Metric(True, "0 to 1", _LABELS, "f1", "weighted", of_labels=True),
    "auroc": Metric(True, "0.5 is chance, 1 is perfect",
                    f"{_CLASSES}; or logits and labels 0/1, both (N, C)", of_labels=True),
    "calibration_error": Metric(False, "0 to 1", f"{_POSITIONS}; {_ONE}", has_interval=False),
    "cross_entropy": Metric(False, "nats a sample", _POSITIONS),
    "bits_per_token": Metric(False, "bits a token", _TOKENS),
    "perplexity": Metric(False, "1 is perfect", _TOKENS),
    "mae": Metric(False, "the target's unit", _NUMBERS),
    "mse": Metric(False, "the target's unit, squared", _NUMBERS),
    "rmse": Metric(False, "the target's unit", _NUMBERS),
    "r2": Metric(True, "at most 1", _NUMBERS),
    "spearman": Metric(True, "-1 to 1", _NUMBERS),
    "cosine": Metric(True, "-1 to 1", _VECTORS),
    "rank_agreement": Metric(True, "-1 to 1", "vectors (N, D) and (N, E)"),
    "iou": Metric(True, "0 to 1", _MASKS, of_labels=True),
    "dice": Metric(True, "0 to 1", _MASKS, of_labels=True),
    "mean_average_precision": Metric(True, "0 to 1", _BOXES),
    "mean_average_precision_50": Metric(True, "0 to 1", _BOXES, "mean_average_precision", 0.5),
}  # fmt: skip

LOSSES: tuple[str, ...] = ("cross_entropy", "mse", "l1", "huber", "bce_with_logits")
