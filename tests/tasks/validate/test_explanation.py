"""Explanations: occlusion finds what an answer depends on, and two models are compared by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.input_kinds import ChangedInput
from prefect_hone.tasks.validate.attribution_agreement import rank_correlation, top_overlap
from prefect_hone.tasks.validate.occlusion import Focus, Occluder
from prefect_hone.tasks.validate.shown import part_names

CLASS = np.array([1])


def two_logits(of_one: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(of_one)), of_one], axis=1)


def test_the_region_that_the_answer_depends_on_is_found() -> None:
    image = np.zeros((1, 1, 16, 16), np.float32)
    image[0, 0, 4:6, 10:12] = 1

    def model(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return two_logits(inputs["input"][:, 0, 4:6, 10:12].sum(axis=(1, 2)))

    occluder = Occluder(ChangedInput("input", "images"), {"input": np.zeros_like(image)})
    rows, masks = occluder.regions({"input": image})
    assert (rows, len(masks)) == (8, 64)
    assert np.sum(masks, axis=0).tolist() == np.ones((1, 16, 16)).tolist(), "each pixel once"
    focus = Focus.on(model({"input": image}), CLASS)
    found = occluder.attribution({"input": image}, focus, model)
    assert np.flatnonzero(found).tolist() == [2 * 8 + 5]
    last = image.transpose(0, 2, 3, 1)
    other = Occluder(ChangedInput("input", "images", True), {"input": np.zeros_like(last)})
    turned = other.attribution(
        {"input": last}, focus, lambda x: model({"input": x["input"].transpose(0, 3, 1, 2)})
    )
    assert np.array_equal(found, turned)


def test_tokens_are_occluded_by_padding_and_features_by_their_mean() -> None:
    tokens = {"ids": np.array([[3, 9, 4]]), "attention_mask": np.ones((1, 3), int)}
    seen = []

    def model(inputs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs["ids"].tolist())
        assert inputs["attention_mask"].shape == inputs["ids"].shape
        return two_logits((inputs["ids"] == 9).sum(axis=1) * 1.0)

    changed = ChangedInput("ids", "tokens", mask="attention_mask", padding=1)
    focus = Focus.on(np.array([[0.0, 1.0]]), CLASS)
    found = Occluder(changed, tokens).attribution(tokens, focus, model)
    assert found.tolist() == [0, 0.5, 0]
    assert seen == [[[3, 9, 4], [1, 9, 4], [3, 1, 4], [3, 9, 1]]]
    known = {"input": np.array([[0.0, 10.0], [2.0, 30.0]])}
    features = {"input": np.array([[5.0, 7.0]])}
    mean = Occluder(ChangedInput("input", "features"), known)
    numbers = Focus.on(np.array([[2.0]]), np.array([0.5]))
    assert mean.attribution(features, numbers, lambda x: x["input"][:, :1]).tolist() == [4, 0]


def test_the_answer_is_the_trained_models_own_wherever_the_classes_are() -> None:
    logits = np.zeros((1, 4, 3))  # (N, T, C)
    logits[0, :, 2] = 3
    focus = Focus.on(logits, np.array([[0, 1, -100, -100]]))
    assert focus.of(logits).tolist() == [2.0]
    worse = logits.copy()
    worse[0, 0, 2] = 0
    worse[0, 2, 2] = -9  # it doesn't count
    assert focus.of(worse).tolist() == [1.0]
    vector = Focus.on(np.array([[3.0, 4.0]]), np.array([[3.0, 4.0]]))
    assert vector.of(np.array([[3.0, 4.0], [4.0, -3.0]])) == pytest.approx([5.0, 0.0])


def test_orders_of_regions_are_compared() -> None:
    before = np.arange(20.0)
    assert rank_correlation(before, 7 * before + 1) == pytest.approx(1)
    assert rank_correlation(before, -before) == pytest.approx(-1)
    assert rank_correlation(before, np.zeros(20)) == 0
    assert top_overlap(before, before) == 1
    assert top_overlap(before, -before) == 0
    assert top_overlap(before, np.where(before == 19, -1, before)) == 0.5


def test_parts_of_a_text_are_shown_as_text() -> None:
    tokens, masks = np.array([3, 1, 2]), [np.array([True, True, False]), np.array([0, 0, 1], bool)]
    assert part_names(tokens, masks, lambda some: "".join("abcd"[n] for n in some)) == (
        "0-1: db",
        "2: c",
    )

    assert part_names(tokens, masks[1:], lambda some: " ") == ("2: ' '",)

    def of_whole_samples(some: torch.Tensor) -> str:
        return f"{some[0]} {some[2]}"

    assert part_names(tokens, masks, of_whole_samples) == ("0-1: 3 1", "2: 2")
    assert part_names(np.array([0.25, 2.0]), [np.array([True, False])], None) == ("0: 0.25",)
