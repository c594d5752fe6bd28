"""Which input is corrupted and occluded, by shape and type; what fits none is refused."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.data.input_kinds import ChangedInput, find_input
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.proofs import Proofs

IMAGES = np.zeros((4, 3, 8, 9), np.float32)
TOKENS = np.arange(20).reshape(4, 5)
MASK = np.ones((4, 5), np.int64)
FEATURES = np.zeros((4, 13), np.float32)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"input": IMAGES}, ChangedInput("input", "images")),
        ({"input": IMAGES.transpose(0, 2, 3, 1)}, ChangedInput("input", "images", True)),
        ({"input": IMAGES.astype(np.uint8)}, ChangedInput("input", "images")),
        ({"input": TOKENS}, ChangedInput("input", "tokens")),
        ({"input": FEATURES}, ChangedInput("input", "features")),
        ({"ids": TOKENS, "attention_mask": MASK},
         ChangedInput("ids", "tokens", mask="attention_mask")),
        ({"ids": TOKENS, "which": MASK - 1}, ChangedInput("ids", "tokens")),
        ({"image": IMAGES, "age": np.zeros(4, np.float32)}, ChangedInput("image", "images")),
    ],
)  # fmt: skip
def test_it_is_found_by_shape_and_type(inputs: dict, found: ChangedInput) -> None:
    assert find_input(inputs, Proofs()) == found


def test_a_recipe_can_name_the_input_and_the_kind() -> None:
    inputs = {"image": IMAGES, "notes": FEATURES}
    assert find_input(inputs, Proofs(input="notes")).kind == "features"
    assert find_input(inputs, Proofs(kind="images")).name == "image"
    series = {"input": np.zeros((4, 7, 2), np.float32)}
    assert find_input(series, Proofs(kind="features")).kind == "features"
    assert find_input({"input": TOKENS}, Proofs(padding_token=3)).padding == 3


@pytest.mark.parametrize(
    ("inputs", "proofs", "told"),
    [
        ({"image": IMAGES, "notes": FEATURES}, Proofs(), r"several .*\(image, notes\)"),
        ({"input": np.zeros((4, 7, 2), np.float32)}, Proofs(), r"float32 \(7, 2\) a sample"),
        ({"input": TOKENS}, Proofs(kind="features"), "features are floats"),
        ({"input": TOKENS}, Proofs(kind="images"), "images are 4-D floats"),
        ({"image": IMAGES}, Proofs(input="imge"), "did you mean 'image'"),
    ],
)
def test_what_fits_none_is_refused(inputs: dict, proofs: Proofs, told: str) -> None:
    with pytest.raises(InputError, match=told):
        find_input(inputs, proofs)


def test_padding_and_masked_tokens_do_not_count() -> None:
    tokens = np.array([[5, 6, 0, 0]])
    assert ChangedInput("ids", "tokens").counting({"ids": tokens}).tolist() == [[1, 1, 0, 0]]
    masked = {"ids": tokens + 1, "attention_mask": np.array([[1, 1, 1, 0]])}
    found = ChangedInput("ids", "tokens", mask="attention_mask").counting(masked)
    assert found.tolist() == [[1, 1, 1, 0]]
