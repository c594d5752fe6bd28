"""Splits as a whole: NaN in any of them is named, and so is a factory that never gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect_hone import Data
from prefect_hone.ray_workers.data.split_checks import check_finite, check_repeats, look_at_all
from prefect_hone.ray_workers.data.splits import Splits, split
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from torch import nn

PROJECT = Path(__file__).parents[2] / "project"
ALLOWED = Allowed(modules=("odd_data",))


def splits(kind: str | None, where: str = "train", give: str | None = None) -> Splits:
    """The test project's rows; with `give`, that split of them as another one, too."""
    use_code(PROJECT)
    made: Data = ALLOWED.call("odd_data:rows", {"kind": kind, "split": where}, "data")
    if give is not None:
        rest: Any = ALLOWED.call("odd_data:rows", {"count": 20, "start": 500}, "data").train
        made = Data(train=rest, test=made.test, **{give: made.train})
    return split(made, 0)


@pytest.mark.parametrize(
    ("where", "give", "said"),
    [
        ("test", None, "Data.test"),
        ("train", None, "Data.train"),
        ("train", "validation", "Data.validation"),
        ("train", "calibration", "Data.calibration"),
    ],
)
def test_one_sample_with_nan_is_named_whatever_its_split(
    where: str, give: str | None, said: str
) -> None:
    found = splits("nan input", where, give)
    with pytest.raises(InputError, match=f"{said}: sample 7 has NaN in the input"):
        check_finite(nn.Linear(13, 3), found, look_at_all(found)[0])


@pytest.mark.parametrize(
    ("kind", "where", "said"),
    [
        ("other length", "train", r"Data.train: the factory gave \d+ samples at one call and"),
        ("other length", "test", r"Data.test: the factory gave \d+ samples at one call and"),
        ("other rows", "test", r"Data.test: the factory gave sample \d+ another target"),
    ],
)
def test_a_factory_that_gives_other_data_at_each_call_is_refused(
    kind: str, where: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check_repeats(splits(kind, where), splits(kind, where))


def test_random_inputs_of_the_test_split_are_told() -> None:
    assert check_repeats(splits(None), splits(None)) == []
    (note,) = check_repeats(splits("other inputs"), splits("other inputs"))
    assert note.startswith("the test split is another at each call (sample 0 differs in the input)")
