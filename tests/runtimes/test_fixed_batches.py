"""Programs of fixed batch sizes take any batch."""

from __future__ import annotations

import numpy as np
from prefect_hone.runtimes.fixed_batches import for_batch_sizes, in_fixed_batches
from prefect_hone.runtimes.predict import Arrays, Predict


def test_fixed_batches_take_any_batch() -> None:
    seen: list[int] = []

    def program(size: int):
        def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
            assert len(inputs["x"]) == size
            seen.append(size)
            return inputs["x"] * 2

        return run

    run = in_fixed_batches({4: program(4), 1: program(1)})
    x = np.arange(11.0)[:, None]
    assert np.array_equal(run({"x": x}), x * 2)
    assert seen == [4, 4, 1, 1, 1]
    only = in_fixed_batches({8: program(8)})
    assert np.array_equal(only({"x": x}), x * 2)


def test_what_is_compiled_when_loaded_is_compiled_for_each_size() -> None:
    asked: list[int | None] = []

    def compiled(size: int | None) -> Predict:
        asked.append(size)
        return lambda inputs: inputs["x"]

    x: Arrays = {"x": np.ones((3, 2))}
    assert for_batch_sizes(None, compiled)(x).shape == (3, 2)
    assert asked == [None]
    assert for_batch_sizes((1, 8), compiled)(x).shape == (3, 2)
    assert asked == [None, 1, 8]
