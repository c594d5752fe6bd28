"""What is slow to read is read once a run."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from prefect_hone import Data
from prefect_hone.ray_workers.data import shared_reading
from prefect_hone.ray_workers.data.shared_data import pickled
from prefect_hone.ray_workers.data.shared_reading import read_once, share_reading
from prefect_hone.ray_workers.data.split_format import Rows
from steps_bench import InMemory

DATA = Data(train=[1], test=[2])


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    monkeypatch.setattr(shared_reading, "FAST", 0.0)
    made = InMemory()
    share_reading(DATA, made, "factory")
    yield made
    share_reading(DATA, None, "factory")


def test_the_second_step_takes_what_the_first_read(shared: InMemory) -> None:
    calls: list[int] = []

    def read() -> dict[str, Any]:
        calls.append(1)
        return {"test": [1, 2]}

    assert read_once(DATA, "test", read) == read_once(DATA, "test", read) == {"test": [1, 2]}
    assert len(calls) == 1
    assert read_once(DATA, "train", read) == {"test": [1, 2]}
    assert len(calls) == 2, "another part"
    share_reading(DATA, shared, "another factory")
    read_once(DATA, "test", read)
    read_once(object(), "test", read)
    assert len(calls) == 4, "not what the factory returned"
    share_reading(DATA, None, "factory")
    read_once(DATA, "test", read)
    assert len(calls) == 5


def test_what_can_not_be_copied_is_read_by_each(shared: InMemory) -> None:
    calls: list[int] = []

    def read() -> object:
        calls.append(1)
        return threading.Lock()

    read_once(DATA, "test", read)
    read_once(DATA, "test", read)
    assert len(calls) == 2


def test_who_fails_leaves_the_turn_to_the_next_and_who_asks_meanwhile_waits(
    shared: InMemory,
) -> None:
    with pytest.raises(OSError, match="gone"):
        read_once(DATA, "test", lambda: (_ for _ in ()).throw(OSError("gone")))
    found: list[int] = []
    begun = threading.Event()

    def slowly() -> int:
        begun.set()
        time.sleep(0.3)
        return 7

    first = threading.Thread(target=lambda: found.append(read_once(DATA, "test", slowly)))
    first.start()
    begun.wait(5)
    found.append(read_once(DATA, "test", lambda: 8))
    first.join()
    assert found == [7, 7]


def test_large_arrays_are_kept() -> None:
    """They were written as buffers, of which the limit wanted to know a length."""
    rows = Rows({"x": np.arange(2e5).reshape(-1, 2), "y": np.arange(1e5)}, "x", "y")
    content = pickled(rows)
    assert content is not None
    assert np.array_equal(pickle.loads(content).columns["x"], rows.columns["x"])
