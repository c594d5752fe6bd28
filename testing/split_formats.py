"""Tests of a data format: the same rows as torch datasets, each once, in a seeded order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from ..ray_workers.data.calling import arrays
from ..ray_workers.data.formats import format_of
from ..ray_workers.data.split_format import Feed, SplitFormat
from ..ray_workers.data.splits import SPLITS, batch_indices, batches, feed_of, split
from ..ray_workers.data.torch_datasets import TorchDatasets
from ..ray_workers.metrics import Array
from ..ray_workers.training.dealing import deal, shuffled
from ..recipe.data import Data
from ..recipe.errors import InputError

_BATCH, _SEED = 16, 3


@dataclass(frozen=True)
class SplitFormatCase:
    """Splits in a format, and the same rows as torch datasets.

    Attributes:
        data: In the format; 40 training rows or more, all different.
        plain: The same rows, in the same order, as torch datasets.
        refused: Data in the format that can't be read, such as one with a missing column; None:
            there is none.
    """

    data: Data
    plain: Data
    refused: Data | None = None

    @property
    def format(self) -> SplitFormat:
        return format_of("train", self.data)

    @property
    def there(self) -> list[str]:
        """Names of its splits."""
        return [name for name in SPLITS if getattr(self.data, name) is not None]


class SplitFormatTestSuite:
    """Subclass it, and provide the fixture `case`."""

    @pytest.fixture
    def case(self) -> SplitFormatCase:
        raise NotImplementedError("give the suite a fixture `case` that returns a SplitFormatCase")

    def test_it_claims_its_own_splits_and_no_others(self, case: SplitFormatCase) -> None:
        assert case.format.name
        assert all(case.format.claims(getattr(case.data, name)) for name in case.there)
        assert not case.format.claims(None)
        if not isinstance(case.format, TorchDatasets):
            assert not case.format.claims(case.plain.train)

    def test_it_reads_the_same_rows_as_the_plain_data(self, case: SplitFormatCase) -> None:
        splits = {name: getattr(case.data, name) for name in case.there}
        found = case.format.read(splits, case.data)
        assert set(found) == set(splits)
        for name, dataset in found.items():
            plain = getattr(case.plain, name)
            assert len(dataset) == len(plain), name
            head = dataset.head if name == "train" and case.format.streams else dataset
            assert len(head) > 0
            for index in (0, len(head) // 2, len(head) - 1):
                _assert_alike(head[index], plain[index])
            with pytest.raises((IndexError, ValueError)):
                head[len(head)]

    def test_batches_are_whole_and_in_order(self, case: SplitFormatCase) -> None:
        splits, plain = split(case.data, _SEED), split(case.plain, _SEED)
        groups = batch_indices(range(len(splits.test)), _BATCH)
        found = list(batches(splits, splits.test, groups))
        expected = list(batches(plain, plain.test, groups))
        assert len(found) == len(groups)
        for mine, theirs in zip(found, expected, strict=True):
            _assert_alike(mine, theirs)

    def test_validation_and_calibration_are_the_same_for_the_same_seed(
        self, case: SplitFormatCase
    ) -> None:
        first, again = split(case.data, _SEED), split(case.data, _SEED)
        for name in ("validation", "calibration"):
            mine, theirs = getattr(first, name), getattr(again, name)
            assert len(mine) == len(theirs) > 0
            _assert_alike(mine[0], theirs[0])

    @pytest.mark.parametrize("readers", [1, 2, 3])
    def test_each_row_counts_once_over_all_readers(
        self, case: SplitFormatCase, readers: int
    ) -> None:
        with _reading(case) as read:
            counted = np.concatenate([part for parts in read(0, readers, 0) for part in parts])
            steps = {len(parts) for parts in read(0, readers, 0)}
        assert len(steps) == 1, "every reader has as many steps"
        whole: Any = case.plain.train
        if not case.format.streams:  # a part of it is the validation split
            whole = split(case.data, _SEED).train
        expected = _keys(whole, range(len(whole)))
        assert sorted(counted.tolist()) == sorted(expected.tolist())

    def test_the_order_is_seeded_and_can_be_gone_on_with(self, case: SplitFormatCase) -> None:
        with _reading(case) as read:
            first, other, rest = read(0, 2, 0), read(1, 2, 0), read(0, 2, 1)
        with _reading(case) as read:
            again = read(0, 2, 0)
        for reader in range(2):
            assert _joined(first[reader]) == _joined(again[reader]), "the same epoch"
            assert _joined(first[reader]) != _joined(other[reader]), "another epoch"
            assert _joined(first[reader][1:]) == _joined(rest[reader]), "from step 1 on"

    def test_it_says_what_can_not_be_read_and_where(self, case: SplitFormatCase) -> None:
        if case.refused is None:
            pytest.skip("the case names nothing that it refuses")
        with pytest.raises(InputError) as refused:
            split(case.refused, _SEED)
        assert "data.factory" in (refused.value.where or ""), "an error says where"

    def test_an_empty_split_is_refused(self, case: SplitFormatCase) -> None:
        empty = torch.utils.data.TensorDataset(torch.zeros(0, 1), torch.zeros(0))
        with pytest.raises(InputError, match="empty"):
            split(replace(case.data, test=empty), _SEED)


@contextmanager
def _reading(case: SplitFormatCase) -> Iterator[Callable[[int, int, int], list[list[Array]]]]:
    """A function of (epoch, readers, skip): each reader's batches, as keys of their rows."""

    def by_number(epoch: int, readers: int, skip: int) -> list[list[Array]]:
        splits = split(case.data, _SEED)
        order = shuffled(len(splits.train), _SEED, epoch)
        return [
            [
                _keys(splits.train, share.indices[: share.own])
                for shares in deal(order, _BATCH, readers, reader)[skip:]
                for share in shares
            ]
            for reader in range(readers)
        ]

    with feed_of(case.data, _SEED) as feed:
        yield by_number if feed is None else functools.partial(_from_feed, feed)


def _from_feed(feed: Feed, epoch: int, readers: int, skip: int) -> list[list[Array]]:
    found: list[list[Array]] = [[] for _ in range(readers)]

    def one(reader: int) -> None:
        for rows, own in feed.rows(epoch, readers, reader, _BATCH // readers, skip):
            found[reader].append(_keys(rows, range(own)))

    threads = [threading.Thread(target=one, args=(reader,)) for reader in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found


def _keys(dataset: Any, indices: Any) -> Array:
    """A number for each row that identifies it."""
    return np.array([_key(dataset[index][0]) for index in indices])


def _key(inputs: Any) -> int:
    return hash(tuple((name, value.tobytes()) for name, value in sorted(arrays(inputs).items())))


def _joined(parts: list[Array]) -> list[int]:
    return [key for part in parts for key in part.tolist()]


def _assert_alike(mine: Any, theirs: Any) -> None:
    for name, value in arrays(mine[0]).items():
        np.testing.assert_allclose(value, arrays(theirs[0])[name], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(mine[1]), np.asarray(theirs[1]), rtol=1e-6)
