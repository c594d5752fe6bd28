"""Outputs besides the main one: compared where they have the trained model's shape, else told."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.recipe.errors import StepFailed
from prefect_hone.tasks.validate.validate import _Compared

TARGETS = np.zeros(4, dtype=np.int64)


def rows(width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)


def test_a_pruned_hidden_state_is_told_and_the_rest_is_compared() -> None:
    expected = {"logits": rows(3), "pooled": rows(5), "hidden": rows(16)}
    found = {"logits": rows(3), "hidden": rows(8), "pooled": rows(5) + 1}
    compared = _Compared()
    compared.add(expected, found, TARGETS)
    assert compared.notes() == [
        "the output 'hidden' has shape (8,) for a sample, the trained model's (16,): it is not "
        "compared"
    ]
    metrics = compared.metrics()
    assert metrics["parity/max_abs_error"] == 0, "of the main output"
    assert metrics["parity/pooled/max_abs_error"] == pytest.approx(1, abs=1e-5)
    assert not any("hidden" in name for name in metrics)


def test_a_main_output_of_another_shape_is_refused() -> None:
    with pytest.raises(StepFailed, match=r"output 'logits' has shape \(4, 2\), the trained"):
        _Compared().add({"logits": rows(3)}, {"logits": rows(2)}, TARGETS)
