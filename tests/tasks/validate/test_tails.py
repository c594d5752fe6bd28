"""The largest of several noisy numbers has an interval that holds the largest true one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prefect_hone.tasks.validate.attribution_agreement import Agreement, agreement_metrics
from prefect_hone.tasks.validate.few_changes import tango, wilson
from prefect_hone.tasks.validate.tails import EVEN, Tails, largest, tails_of_largest


@pytest.mark.parametrize("truths", [[0.0] * 8, [0.0, 0.0, 0.0, 3.0], [0.0, 0.1]])
def test_the_interval_holds_the_largest_truth_whichever_it_is(truths: list[float]) -> None:
    tails = tails_of_largest(len(truths))
    below, above = tails.deviations
    drawn = np.random.default_rng(0).normal(truths, 1, (2000, len(truths)))
    bounds = [largest([(v, v - below, v + above) for v in row])[1:] for row in drawn]
    held = np.mean([low <= max(truths) <= high for low, high in bounds])
    assert 0.94 <= held <= 0.98
    alone = np.mean([abs(row.max() - max(truths)) <= 1.96 for row in drawn])
    assert held > alone or len(set(truths)) > 1, "that of the one that looks largest holds less"


def test_without_the_interval_of_one_there_is_none() -> None:
    value, low, high = largest([(0.1, 0.0, 0.2), (0.3, math.nan, math.nan)])
    assert value == 0.3
    assert math.isnan(low)
    assert math.isnan(high)


def test_one_number_has_its_own_interval() -> None:
    assert tails_of_largest(1) == EVEN


def test_each_end_has_its_own_tail() -> None:
    wide = Tails(below=0.001, above=EVEN.above)
    assert wilson(0.9, 100, wide)[0] < wilson(0.9, 100)[0]
    assert wilson(0.9, 100, wide)[1] == wilson(0.9, 100)[1]
    assert tango(5, 1, 100, wide)[0] < tango(5, 1, 100)[0]
    assert tango(5, 1, 100, wide)[1] == tango(5, 1, 100)[1]


def test_samples_that_all_agree_are_not_certain_that_all_do() -> None:
    found = agreement_metrics([Agreement(1.0, 1.0, 6)] * 16)
    assert found["explanation/top_overlap"] == found["explanation/top_overlap_high"] == 1
    assert 0.9 < found["explanation/top_overlap_low"] < 0.98
    rare = [Agreement(r, 1.0, 6) for r in (0.999, 0.9995, 0.998, 0.9999, 0.98, 0.9997)]
    low = agreement_metrics(rare)["explanation/agreement_low"]
    assert low < 0.98, "one in six is so far away; further ones could be"
    assert "explanation/agreement_low" not in agreement_metrics(rare[:1])
