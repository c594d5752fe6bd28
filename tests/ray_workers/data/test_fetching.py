"""Samples that can't be batched are named: split, index and field. Iterable data sets are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone import Data
from prefect_hone.ray_workers.data import iterable_datasets
from prefect_hone.ray_workers.data.asking import ask
from prefect_hone.ray_workers.data.splits import batches, look_through, split
from prefect_hone.ray_workers.events import Note, Progress
from prefect_hone.ray_workers.user_warnings import told_warnings
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.model import DataFactory

PROJECT = Path(__file__).parents[2] / "project"
ALLOWED = Allowed(modules=("odd_data", "slow_data"))


def rows(kind: str | None, where: str = "train", **args: Any) -> Data:
    use_code(PROJECT)
    made: Data = ALLOWED.call("odd_data:rows", {"kind": kind, "split": where, **args}, "data")
    return made


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text", r"Data.test: sample 7 has 'a cat' as the input, expected a number"),
        ("none", r"Data.test: sample 7 has None as the target, expected a number"),
        ("raises", r"Data.test: reading sample 7 raised ValueError.*'cat'.*odd_data.py:\d+"),
        ("short collate", r"Data.collate: a batch of 12 samples of test has shape \(11, 13\) for "
                          r"the inputs"),
        ("long collate", r"Data.collate: a batch of 12 samples of test has shape \(24,\) for the "
                         r"target: the first axis must be the 12 samples"),
        ("shrinks", r"Data.test: sample \d+ is gone: the split has \d+ samples now"),
    ],
)  # fmt: skip
def test_what_can_not_be_batched_is_named(kind: str, said: str) -> None:
    splits = split(rows(kind, "test"), 0)
    with pytest.raises(InputError, match=said):
        list(batches(splits, splits.test, [range(12)]))


def test_nan_is_named() -> None:
    assert look_through("test", rows("nan input", "test").test).not_finite == (7, "the input")
    with pytest.raises(InputError, match=r"Data.test: the target of sample 7 is NaN"):
        look_through("test", rows("nan target", "test").test)


@pytest.mark.parametrize("kind", ["iterable", "counted"])
def test_an_iterable_data_set_gives_what_one_by_index_gives(kind: str) -> None:
    expected, found = split(rows(None), 3), split(rows(kind), 3)
    assert len(found.train) == len(expected.train) == 36
    for name in ("train", "validation", "test"):
        for (x, y), (a, b) in zip(getattr(expected, name), getattr(found, name), strict=True):
            assert torch.equal(x, a)
            assert y == b


def test_an_endless_data_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable_datasets, "_MOST_SAMPLES", 20)
    monkeypatch.setattr(iterable_datasets, "_LOOK_EVERY", 10)
    with pytest.raises(InputError, match=r"Data.train: the iterable data set is endless"):
        split(rows("iterable"), 0)


def test_two_splits_that_are_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"Data.train and Data.test are the same data set"):
        split(rows("same"), 0)


def test_a_slow_factory_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect_hone.ray_workers.data import asking

    monkeypatch.setattr(asking, "_FIRST", 0.01)
    (tmp_path / "slow_data.py").write_text(
        "import time\ndef slow():\n    time.sleep(0.3)\n    return 3"
    )
    use_code(tmp_path)
    events: list[Any] = []
    assert ask(DataFactory(factory="slow_data:slow"), ALLOWED, events.append).data == 3
    assert isinstance(events[0], Progress)
    assert "slow_data:slow prepares the data" in events[0].text


def test_warnings_about_the_users_code_are_told_once() -> None:
    events: list[Any] = []
    data = rows("told")
    with told_warnings(events.append, ALLOWED):
        import warnings

        warnings.warn("a library's", UserWarning, stacklevel=1)
        look_through("train", data.train)
    assert len(events) == 1
    assert isinstance(events[0], Note)
    assert events[0].text.startswith("warning: odd_data.py:")
    assert events[0].text.endswith("UserWarning: rows are made up")
