"""Tests of a metric: rows, parts, intervals, and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ..ray_workers.metrics import Array, MetricFunctions
from ..tasks.validate.interval import quality_interval


@dataclass(frozen=True)
class MetricCase:
    """A metric, and outputs of known quality.

    Attributes:
        metric: Its functions.
        higher_is_better: Its direction, as in the recipe or in `METRICS`.
        outputs: Of a mediocre model, (N, ...), float32; 40 samples or more.
        targets: The expected outputs, (N, ...).
        perfect: Outputs that can't be better.
        worst: Outputs that are far off.
        expected: The metric's value for `outputs`, computed in another way; None: unknown.
    """

    metric: MetricFunctions
    higher_is_better: bool
    outputs: Array
    targets: Array
    perfect: Array
    worst: Array
    expected: float | None = None

    def rows(self, outputs: Array) -> Array:
        return self.metric.per_sample(outputs, self.targets)

    def value(self, outputs: Array) -> float:
        return self.metric.aggregate(self.rows(outputs))


class MetricTestSuite:
    """Subclass it, and provide the fixture `case`."""

    @pytest.fixture
    def case(self) -> MetricCase:
        raise NotImplementedError("give the suite a fixture `case` that returns a MetricCase")

    def test_each_sample_has_a_row_of_finite_numbers(self, case: MetricCase) -> None:
        rows = case.rows(case.outputs)
        assert rows.ndim == 2, f"per_sample gave shape {rows.shape}, expected (N, k)"
        assert len(rows) == len(case.targets)
        assert rows.shape[1] > 0
        assert np.issubdtype(rows.dtype, np.floating)
        assert np.isfinite(rows).all()

    def test_a_row_is_the_same_in_whatever_batch_its_sample_is(self, case: MetricCase) -> None:
        whole = case.rows(case.outputs)
        for size in (1, 7):
            parts = [
                case.metric.per_sample(
                    case.outputs[start : start + size], case.targets[start : start + size]
                )
                for start in range(0, len(case.targets), size)
            ]
            np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-9)

    def test_parts_give_the_whole_in_any_order(self, case: MetricCase) -> None:
        rows = case.rows(case.outputs)
        value = case.metric.aggregate(rows)
        assert isinstance(value, float)
        assert np.isfinite(value)
        parts = np.concatenate([rows[len(rows) // 3 :], rows[: len(rows) // 3]])
        assert case.metric.aggregate(parts) == pytest.approx(value, rel=1e-9, abs=1e-12)

    def test_it_gives_the_same_twice_and_leaves_its_arguments_alone(self, case: MetricCase) -> None:
        outputs, targets = case.outputs.copy(), case.targets.copy()
        first = case.rows(case.outputs)
        kept = first.copy()
        case.metric.aggregate(first)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(case.rows(case.outputs), kept)
        np.testing.assert_array_equal(case.outputs, outputs)
        np.testing.assert_array_equal(case.targets, targets)

    def test_better_outputs_have_the_better_value(self, case: MetricCase) -> None:
        sign = 1 if case.higher_is_better else -1
        perfect, middling, worst = (
            sign * case.value(outputs) for outputs in (case.perfect, case.outputs, case.worst)
        )
        assert perfect > middling > worst

    def test_resampled_rows_give_an_interval_around_the_value(self, case: MetricCase) -> None:
        value, low, high = quality_interval(case.rows(case.outputs), case.metric.aggregate)
        if getattr(case.metric.aggregate, "has_interval", True) is False:
            pytest.skip("the metric has no interval")
        assert np.isfinite([value, low, high]).all()
        assert low <= value <= high
        assert low < high, "rows that are resampled give the same value each time"

    def test_the_value_is_the_expected_one(self, case: MetricCase) -> None:
        if case.expected is None:
            pytest.skip("the case names no expected value")
        assert case.value(case.outputs) == pytest.approx(case.expected, abs=1e-5)
