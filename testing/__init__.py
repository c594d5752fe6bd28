"""Test suites for passes, targets, metrics and data formats, Hone's own and third parties'.

Each is a class to subclass: provide a fixture `case`, and pytest runs the tests that Hone's own
members pass. Needs pytest.

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
