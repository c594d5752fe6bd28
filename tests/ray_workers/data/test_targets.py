"""Several targets: as a collate function returns them, by name, joined; and the one that is main."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.fetching import Fetcher, Wanted
from prefect_hone.ray_workers.data.targets import (
    as_arrays,
    as_targets,
    first_of,
    joined,
    main_target,
    named_targets,
)
from prefect_hone.recipe.errors import InputError
from torch.utils.data import default_collate

KIND, PRICE = torch.tensor([0, 2, 1]), torch.tensor([0.5, 1.5, 2.5])


@pytest.mark.parametrize(
    ("sample", "names"),
    [
        ({"kind": 1, "price": 2.0}, ["kind", "price"]),
        ((1, {"price": 2.0, "size": torch.ones(2)}), ["target_0", "target_1.price", "target_1.size"]),
        ([1, 2], ["target_0", "target_1"]),
        (np.ones(3), ["target"]),
        (1, ["target"]),
    ],
)  # fmt: skip
def test_torchs_collate_keeps_the_form(sample: Any, names: list[str]) -> None:
    rows = [(torch.zeros(4), sample)] * 5
    _, target = Fetcher(rows, default_collate, "train").batch(Wanted(range(5)))
    found = dict(named_targets(target))
    assert list(found) == names
    assert all(len(value) == 5 for value in found.values())


@pytest.mark.parametrize("value", [[1, 2, 3], [[1], [2], [3]], [np.ones(2)] * 3, (KIND[0],) * 3])
def test_a_list_of_the_samples_targets_is_one_tensor(value: Any) -> None:
    found = as_targets(value)
    assert isinstance(found, torch.Tensor)
    assert len(found) == 3


def test_batches_are_cut_and_joined_in_their_form() -> None:
    target = {"kind": KIND, "more": (PRICE, None)}
    whole = joined([first_of(target, 2), target])
    assert whole["kind"].tolist() == [0, 2, 0, 2, 1]
    assert whole["more"][0].tolist() == [0.5, 1.5, 0.5, 1.5, 2.5]
    assert whole["more"][1] is None
    assert isinstance(as_arrays(target)["more"][0], np.ndarray)
    assert joined([KIND, KIND]).tolist() == [*KIND.tolist()] * 2


def test_the_main_one_is_the_first_or_the_named() -> None:
    several = {"kind": KIND, "price": PRICE}
    assert main_target(several) is KIND
    assert main_target(several, "price") is PRICE
    assert main_target((KIND, {"price": PRICE}), "target_1.price") is PRICE
    assert main_target(KIND) is KIND
    with pytest.raises(InputError, match=r"no target 'prize': did you mean 'price'\?") as failed:
        main_target(several, "prize")
    assert failed.value.where == "data.target"
    with pytest.raises(InputError, match="no target 'kind'"):
        main_target(KIND, "kind")


def test_a_part_of_another_length_or_without_numbers_is_named() -> None:
    def wrong(samples: Any) -> Any:
        x, y = default_collate(samples)
        return x, {**y, "price": y["price"][:1]}

    rows = [(torch.zeros(4), {"kind": 1, "price": 2.0})] * 5
    with pytest.raises(InputError, match=r"shape \(1,\) for the target 'price'"):
        Fetcher(rows, wrong, "train").batch(Wanted(range(5)))
    rows = [*rows[:2], (torch.zeros(4), {"kind": None, "price": 2.0})]
    with pytest.raises(InputError, match="sample 2 has None as the target 'kind'"):
        Fetcher(rows, default_collate, "train").batch(Wanted(range(3)))
