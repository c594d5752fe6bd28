"""The ratio of a signal's energy to that of the noise."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.model.sqnr import LARGEST_SQNR, sqnr_db

ONES = np.ones((4, 3), np.float32)


def test_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    assert sqnr_db(ONES, ONES * np.float32(0.9)) == pytest.approx(20, abs=1e-4)
    assert sqnr_db(ONES, ONES * 0) == 0


def test_the_same_bits_and_no_signal_have_numbers_too() -> None:
    assert sqnr_db(ONES, ONES) == LARGEST_SQNR
    assert sqnr_db(ONES * 0, ONES * 0) == LARGEST_SQNR
    assert sqnr_db(ONES * 0, ONES) == -LARGEST_SQNR
    assert sqnr_db(ONES.astype(np.float64), ONES + 1e-12) == LARGEST_SQNR


def test_outputs_that_are_not_finite_are_the_worst_unless_they_should_be_so() -> None:
    broken = ONES.copy()
    broken[0, 0] = np.nan
    assert sqnr_db(ONES, broken) == -LARGEST_SQNR
    masked = ONES.copy()
    masked[0, 0] = -np.inf
    assert sqnr_db(ONES, masked) == sqnr_db(masked, ONES) == -LARGEST_SQNR
    assert sqnr_db(masked, masked) == sqnr_db(broken, broken) == LARGEST_SQNR
    quieter = np.where(np.isfinite(masked), masked * 0.9, masked)
    assert sqnr_db(masked, quieter) == pytest.approx(20, abs=1e-4)
