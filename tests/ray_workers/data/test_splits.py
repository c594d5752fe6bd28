"""Splits: derived from train, never from test; what a sample may be; models with several inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prefect_hone import Data, InputError
from prefect_hone.ray_workers.data.calling import arrays, call_model, main_output, tensors
from prefect_hone.ray_workers.data.splits import batches, fingerprints, split
from torch.utils.data import TensorDataset, default_collate


def dataset(count: int, start: int = 0) -> TensorDataset:
    x = torch.arange(start, start + count, dtype=torch.float32).reshape(-1, 1)
    return TensorDataset(x, torch.zeros(count, dtype=torch.int64))


def test_defaults_are_slices_of_train() -> None:
    splits = split(Data(train=dataset(100), test=dataset(20, 1000)), seed=0)
    assert (len(splits.train), len(splits.validation)) == (90, 10)
    train, validation = fingerprints(splits.train), fingerprints(splits.validation)
    assert not train & validation
    assert fingerprints(splits.calibration) <= train
    assert not fingerprints(splits.test) & (train | validation)


def test_the_same_seed_gives_the_same_splits() -> None:
    data = Data(train=dataset(100), test=dataset(20))
    first, same, other = (split(data, seed) for seed in (1, 1, 2))
    assert fingerprints(first.validation) == fingerprints(same.validation)
    assert fingerprints(first.validation) != fingerprints(other.validation)


def test_given_splits_are_kept() -> None:
    data = Data(train=dataset(50), test=dataset(5, 90), validation=dataset(7, 60))
    splits = split(data, 0)
    assert (len(splits.train), len(splits.validation)) == (50, 7)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "expected a prefect_hone.Data"),
        (Data(train=dataset(0), test=dataset(1)), "Data.train: the split is empty"),
        (Data(train=dataset(9), test=dataset(0)), "Data.test: the split is empty"),
        (Data(train=dataset(9), test=dataset(1), calibration=dataset(0)), "Data.calibration"),
        (Data(train=iter([]), test=dataset(1)), "not a dataset"),
        (Data(train=TensorDataset(torch.zeros(9)), test=dataset(1)), "expected a pair"),
        (Data(train=dataset(1), test=dataset(1)), "too few"),
    ],
)
def test_what_can_not_be_split_is_said(data: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        split(data, 0)
    assert said in str(caught.value)


def test_weights_of_samples_are_refused_with_what_to_do_instead() -> None:
    weighted = TensorDataset(torch.zeros(20, 2), torch.zeros(20), torch.ones(20))
    with pytest.raises(InputError, match=r"(?s)three parts .*weights of samples are no part"):
        split(Data(train=weighted, test=dataset(3)), 0)

    def collate(samples: list[Any]) -> tuple[torch.Tensor, ...]:
        return (*default_collate(samples), torch.ones(len(samples)))

    splits = split(Data(train=dataset(20), test=dataset(3), collate=collate), 0)
    with pytest.raises(InputError, match="collate returned three parts") as refused:
        next(batches(splits, splits.test, [[0, 1]]))
    assert refused.value.where == "data.factory: Data.collate"


def test_batches_come_in_the_order_asked_for() -> None:
    splits = split(Data(train=dataset(20), test=dataset(10)), 0)
    got = [x.flatten().tolist() for x, _ in batches(splits, splits.test, [[3, 1], [2]])]
    assert got == [[3, 1], [2]]


def test_several_inputs_are_keywords() -> None:
    def model(a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": a, "logits": a + b}

    inputs = {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
    assert call_model(model, inputs).sum() == 12
    assert set(arrays(inputs)) == {"a", "b"}
    back = tensors(arrays(inputs))
    assert torch.equal(back["a"], inputs["a"])


def test_the_main_output() -> None:
    x = torch.ones(1)
    assert main_output((x, 2)) is x
    assert main_output({"z": x}) is x
    with pytest.raises(InputError, match="expected a tensor"):
        main_output("text")
