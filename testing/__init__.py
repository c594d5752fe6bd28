"""Suites for passes, targets, metrics and split formats, Hone's own and other people's.

One a kind, as a class to inherit from: give it a fixture `case`, and pytest asks your member what
Hone's own members are asked. Needs pytest.

    from prefect_hone.testing.metrics import MetricCase, MetricTestSuite

    class TestIou(MetricTestSuite):
        @pytest.fixture
        def case(self) -> MetricCase:
            return MetricCase(Iou(), higher_is_better=True, outputs=..., targets=..., ...)
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    f"{__name__}.metrics",
    f"{__name__}.passes",
    f"{__name__}.split_formats",
    f"{__name__}.targets",
)
