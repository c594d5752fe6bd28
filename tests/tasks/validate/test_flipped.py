"""The flipped samples themselves: with both answers and margins, as a picture or in numbers."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prefect_hone.ray_workers.data.splits import Splits, split
from prefect_hone.recipe.data import Data
from prefect_hone.tasks.validate.flipped import MOST_SHOWN, Answers, flipped_samples
from prefect_hone.tasks.validate.shown import shown
from torch.utils.data import TensorDataset

TARGETS = torch.arange(20) % 3


def splits(test: Any, **fields: Any) -> Splits:
    train = TensorDataset(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64))
    return split(Data(train=train, test=TensorDataset(test, TARGETS), **fields), 0)


def test_the_clearest_come_first_with_both_answers_and_margins() -> None:
    data = splits(torch.arange(40.0).reshape(20, 2))

    def trained(inputs: torch.Tensor) -> dict[str, np.ndarray]:
        logits = np.zeros((len(inputs), 3))
        logits[:, int(TARGETS[int(inputs[0, 0]) // 2])] = 2
        return {"output": logits}

    answers = {i: ((int(TARGETS[i]) + 1) % 3, -0.1 * i) for i in range(10)}
    found = flipped_samples(data, range(10), answers, trained, broken=True)
    assert [one.index for one in found] == [9, 8, 7, 6, 5, 4]
    first = found[0]
    assert (first.target, first.before, first.after) == (0, 0, 1)
    assert (first.margin_before, first.margin_after) == (2.0, pytest.approx(-0.9))
    assert first.sample.text == "18 19"
    repaired = flipped_samples(data, range(10), answers, trained, broken=False)
    assert [one.index for one in repaired] == list(range(MOST_SHOWN))


def test_answers_that_are_no_classes_have_no_margin() -> None:
    data = splits(torch.zeros(20, 2))
    (one,) = flipped_samples(data, [3], {}, lambda _: {"output": np.zeros((1, 1))}, broken=True)
    assert (one.before, one.after, one.margin_before) == (None, None, None)
    logits = np.array([[1.0, 4.0, 2.0], [3.0, 0.0, 2.5]])
    found = Answers.of(logits, np.array([1, 2]))
    assert found is not None
    assert found.by_index([7, 9]) == {7: (1, 2.0), 9: (0, -0.5)}
    assert Answers.of(logits, np.array([1, -100])) is None
    assert Answers.of(logits, np.array([0.5, 1.0])) is None


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [((1, 8, 6), (6, 8), "L"), ((3, 200, 100), (32, 64), "RGB"), ((9, 9, 4), (9, 9), "RGB")],
)
def test_an_image_is_a_small_picture(
    shape: tuple[int, ...], size: tuple[int, int], mode: str
) -> None:
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    picture = shown({"image": values, "age": np.zeros(1)}, None, None).picture
    assert picture is not None
    opened = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert (opened.size, opened.mode) == (size, mode)


def test_tokens_are_numbers_or_what_the_data_make_of_them() -> None:
    tokens = {"ids": np.arange(30)[None], "attention_mask": np.ones((1, 30), int)}
    told = shown(tokens, None, None).text
    assert told is not None
    assert told.startswith("ids: 0 1 2 ")
    assert "… (30 numbers)" in told
    words = splits(torch.zeros(20, 2), text=lambda sample: f"{len(sample)} <words>").text
    assert shown(tokens, words, [1, 2]).text == "2 <words>"
