"""The end of a streamed epoch: a batch that is too small for batch norm joins the one before."""

from __future__ import annotations

import numpy as np
from prefect_hone.ray_workers.data.split_format import Rows
from prefect_hone.ray_workers.training.ray_batches import _without_tiny_end


def rows(*values: int) -> Rows:
    return Rows({"x": np.array(values), "y": np.array(values)}, "x", "y")


def test_a_tiny_last_batch_joins_the_one_before() -> None:
    source = [(rows(0, 1, 2), 3), (rows(3, 4, 9), 2), (rows(5), 1)]
    first, last = _without_tiny_end(iter(source), least=2)
    assert first == source[0]
    assert last[0].columns["x"].tolist() == [3, 4, 5, 9], "what counts comes before what fills up"
    assert last[1] == 3
    assert list(_without_tiny_end(iter(source), least=1)) == source
    assert list(_without_tiny_end(iter(source[-1:]), least=2)) == source[-1:]
