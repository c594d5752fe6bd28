"""The same micro-batches, whichever process reads them, and wherever training is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone import Data
from prefect_hone.ray_workers.data.splits import split
from prefect_hone.ray_workers.training.dealing import Fewest
from prefect_hone.ray_workers.training.loading import Loader, TrainBatches
from prefect_hone.ray_workers.training.parallel.axes import Axes
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.training import Train

PROJECT = Path(__file__).parents[2] / "project"


def data(kind: str) -> Data:
    use_code(PROJECT)
    made: Data = Allowed(modules=("odd_data",)).call("odd_data:rows", {"kind": kind}, "data")
    return made


def read(kind: str, epoch: int = 0, skip: int = 0, **loading: Any) -> list[Any]:
    spec = Train(epochs=1, batch_size=8, accumulate=2, loading=loading)
    made = TrainBatches(split(data(kind), 0), spec, Axes.alone(), None, Fewest())
    try:
        return [batch for step in made.steps(epoch, skip) for batch in step]
    finally:
        made.close()


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target)
        for a, b in zip(one, other, strict=True)
    )


def test_augmented_samples_are_the_same_in_any_process() -> None:
    alone = read("augmented", workers=0)
    assert len(alone) == 10
    assert same(alone, read("augmented", workers=0))
    assert same(alone, read("augmented", workers=2, prefetch=1))
    assert same(alone[4:], read("augmented", skip=2, workers=2))
    assert not same(alone, read("augmented", epoch=1, workers=0))


def test_an_error_in_a_process_that_reads_names_the_sample_and_the_line() -> None:
    with pytest.raises(
        InputError, match=r"Data.train: reading sample 7 raised ValueError.*odd_data"
    ):
        read("raises", workers=1)


def test_slow_samples_are_read_in_processes_of_their_own() -> None:
    class Slow(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            torch.rand(1)
            import time

            time.sleep(0.002)
            return torch.ones(3), 0

    splits = split(Data(train=Slow(), test=data("float64").test), 0)
    state = torch.get_rng_state()
    spec = Train(epochs=1, batch_size=8, resources={"cpus": 3})
    assert Loader(splits, splits.train, spec, Axes.alone()).workers == 3
    assert Loader(splits, splits.test, spec, Axes.alone()).workers == 0
    assert torch.equal(state, torch.get_rng_state())
