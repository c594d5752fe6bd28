"""Groups of samples: by label, by name, by a function; what is missing is told."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.groups import (
    MISSING,
    groupings,
    read_groupings,
    write_groupings,
)
from prefect_hone.ray_workers.data.split_format import Rows
from prefect_hone.ray_workers.data.splits import Splits, split
from prefect_hone.recipe.data import Data
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed
from torch.utils.data import TensorDataset

X, Y = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


def data(test: Any = None, **fields: Any) -> Splits:
    train = TensorDataset(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64))
    return split(Data(train=train, test=test or TensorDataset(X, Y), **fields), 0)


def named(splits: Splits, *by: str, allowed: Allowed | None = None) -> list[list[str]]:
    found = groupings(splits, by, allowed or Allowed())
    return [[one.groups[i] for i in one.members] for one in found]


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Allowed:
    module = types.ModuleType("own_groups")

    def size(inputs: torch.Tensor, target: torch.Tensor) -> str | None:
        return None if inputs.sum() > 15 else "large" if inputs.sum() > 6 else "small"

    def broken(inputs: torch.Tensor, target: torch.Tensor) -> str:
        raise ValueError("no such thing")

    for function in (size, broken):
        function.__module__ = "own_groups"
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "own_groups", module)
    return Allowed(prefixes=("own_groups",))


def test_by_label_by_name_and_by_function_at_once(allowed: Allowed, tmp_path: Path) -> None:
    sex = ["f", "m", None, "f", math.nan, "m"]
    splits = data(groups={"sex": sex})
    found = groupings(splits, ["label", "sex", "own_groups:size"], allowed)
    assert named(splits, "label") == [["0", "1", "2", "0", "1", "2"]]
    assert [one.by for one in found] == ["label", "sex", "size"]
    assert found[1].groups == ("f", "m", MISSING)
    assert found[1].told() == "2 of 6 test samples have no sex: they are the group 'missing'"
    assert named(splits, "own_groups:size", allowed=allowed)[0] == (
        ["small", "small", "large", "large", MISSING, MISSING]
    )
    write_groupings(tmp_path, found)
    assert read_groupings(tmp_path) == found


def test_a_column_or_an_input_has_a_name() -> None:
    columns = {"inputs": X.numpy(), "target": Y.numpy(), "site": np.array(["b", "a"] * 3)}
    assert named(data(Rows(columns, "inputs", "target")), "site") == [["b", "a"] * 3]
    inputs = [({"x": X[i], "old": bool(i > 2)}, Y[i]) for i in range(6)]
    assert named(data(inputs), "old") == [["False"] * 3 + ["True"] * 3]


@pytest.mark.parametrize(
    ("splits", "by", "told"),
    [
        ({"groups": {"sex": ["f"]}}, "sex", "has 1 values of 'sex' for 6 test samples"),
        ({"groups": {"sex": ["f"] * 6}}, "sec", "did you mean 'sex'"),
        ({"groups": {"sex": [None] * 6}}, "sex", "no test sample has a group by 'sex'"),
        ({}, "input", r"'input' needs one name, integer or bool per sample, not torch.float32 of"),
        ({"test": TensorDataset(X, Y / 2)}, "label", "label needs one integer target per sample"),
        ({"test": TensorDataset(X, X)}, "label", "label needs one integer target per sample"),
    ],
)
def test_what_is_no_group_is_refused(splits: dict[str, Any], by: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        named(data(**splits), by)


def test_a_function_that_fails_names_the_sample(allowed: Allowed) -> None:
    with pytest.raises(InputError, match=r"the group of sample 0.*no such thing"):
        named(data(), "own_groups:broken", allowed=allowed)
