"""Robustness: the same corruptions for every model, and a loss that is paired by sample."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.data.input_kinds import ChangedInput
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.proofs import Proofs
from prefect_hone.tasks.validate.chosen import input_to_change
from prefect_hone.tasks.validate.corruptions import Corrupter, Corruption, corruptions_of
from prefect_hone.tasks.validate.loss_under import LossUnder, Pair

RANDOM = np.random.default_rng(0)
IMAGES = {"input": RANDOM.uniform(size=(6, 1, 12, 10)).astype(np.float32)}
TOKENS = {"input": RANDOM.integers(1, 50, size=(6, 20))}
FEATURES = {"input": RANDOM.normal(size=(6, 5)).astype(np.float32) * [1, 1, 1, 1, 100]}
KINDS = {"images": IMAGES, "tokens": TOKENS, "features": FEATURES}


def distance(kind: str, how: Corruption) -> float:
    given = KINDS[kind]
    found = Corrupter(ChangedInput("input", kind), given)(given, range(6), how)["input"]
    assert found.dtype == given["input"].dtype
    assert found.shape == given["input"].shape
    if kind == "tokens":
        return float((found != given["input"]).mean())
    return float(np.abs(found - given["input"]).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stronger_corruption_changes_more(kind: str) -> None:
    every = corruptions_of(ChangedInput("input", kind))
    for name in {how.name for how in every}:
        weak, medium, strong = (distance(kind, Corruption(name, s)) for s in (1, 2, 3))
        assert 0 < weak < medium < strong, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_corrupted_alike_in_any_batch(kind: str) -> None:
    given = KINDS[kind]
    corrupt = Corrupter(ChangedInput("input", kind), given)
    for how in corruptions_of(ChangedInput("input", kind)):
        whole = corrupt(given, range(6), how)["input"]
        alone = corrupt({"input": given["input"][4:5]}, [4], how)["input"]
        assert np.array_equal(whole[4:5], alone), how


def test_what_comes_out_is_still_an_input_of_the_model() -> None:
    noisy = Corrupter(ChangedInput("input", "images"), IMAGES)(
        IMAGES, range(6), Corruption("noise", 3)
    )["input"]
    assert noisy.min() >= IMAGES["input"].min()
    assert noisy.max() <= IMAGES["input"].max()
    bytes_ = {"input": (255 * IMAGES["input"]).astype(np.uint8)}
    corrupt = Corrupter(ChangedInput("input", "images"), bytes_)
    assert corrupt(bytes_, range(6), Corruption("blur", 3))["input"].dtype == np.uint8
    changed = ChangedInput("input", "tokens")
    replaced = Corrupter(changed, TOKENS)(TOKENS, range(6), Corruption("replace", 3))["input"]
    assert set(replaced.ravel()) <= set(TOKENS["input"].ravel())
    dropped = Corrupter(changed, TOKENS)(TOKENS, range(6), Corruption("drop", 3))["input"]
    assert (dropped == 0).sum(axis=1).tolist() == [6] * 6


def test_padding_stays_and_a_mask_is_kept() -> None:
    tokens = np.where(np.arange(20) < 10, TOKENS["input"], 0)
    given = {"input": tokens, "attention_mask": (tokens != 0).astype(np.int64)}
    changed = ChangedInput("input", "tokens", mask="attention_mask")
    found = Corrupter(changed, given)(given, range(6), Corruption("replace", 3))
    assert (found["input"][:, 10:] == 0).all()
    assert found["attention_mask"] is given["attention_mask"]


def under(answers: dict[str, np.ndarray], name: str = "accuracy") -> LossUnder:
    """One corruption, from the statistics of both models as they are and corrupted."""
    measure = metric(name)
    return LossUnder.of(
        measure.aggregate,
        name == "accuracy",
        Pair(answers["trained"], answers["candidate"]),
        {Corruption("noise", 3): Pair(answers["trained_noisy"], answers["candidate_noisy"])},
    )


def shares(*wrong: int) -> dict[str, np.ndarray]:
    """Of 100 samples, so many are wrong."""
    names = ("trained", "candidate", "trained_noisy", "candidate_noisy")
    return {
        name: (np.arange(100) >= count).astype(float)[:, None]
        for name, count in zip(names, wrong, strict=True)
    }


def test_the_loss_is_what_the_candidate_loses_more_by_the_corruption() -> None:
    (found,) = under(shares(2, 4, 10, 17)).conditions()
    assert (found.before, found.after) == (0.9, 0.83)
    assert found.drop == pytest.approx((0.96 - 0.83) - (0.98 - 0.9))
    assert found.low < found.drop < found.high
    (same,) = under(shares(2, 2, 10, 10)).conditions()
    assert same.drop == 0
    assert same.low < 0 < same.high, "100 samples don't show that there is no difference"


def test_without_a_difference_as_they_are_the_interval_is_that_of_paired_shares() -> None:
    (found,) = under(shares(2, 2, 10, 17)).conditions()
    worse, better = 8 / 102, 1 / 102  # Bonett and Price: one more of each
    half = 1.959964 * np.sqrt((worse + better - (worse - better) ** 2) / 102)
    middle = worse - better
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), rel=1e-5)


def test_a_loss_of_another_metric_is_positive_where_the_candidate_gets_worse() -> None:
    generator = np.random.default_rng(1)
    errors = generator.normal(size=(200, 1))
    answers = {
        "trained": errors**2, "candidate": errors**2, "trained_noisy": (errors + 0.1) ** 2,
        "candidate_noisy": (errors + 1) ** 2,
    }  # fmt: skip
    (found,) = under(answers, "mse").conditions()
    assert 0.5 < found.low < found.drop < found.high


def test_samples_that_do_not_count_are_left_out_of_all() -> None:
    answers = shares(2, 4, 10, 17)
    answers["candidate_noisy"][:50] = np.nan
    loss = under(answers)
    assert len(loss.clean.trained) == 50


def test_a_single_sample_does_not_say_how_features_spread() -> None:
    alone = {name: values[:1] for name, values in FEATURES.items()}
    assert "single test sample" in str(input_to_change(alone, Proofs()))
    assert input_to_change(FEATURES, Proofs()) == ChangedInput("input", "features")
    alone = {name: values[:1] for name, values in IMAGES.items()}
    assert input_to_change(alone, Proofs()) == ChangedInput("input", "images")


def test_one_sample_has_a_loss() -> None:
    one = {name: rows[5:6] for name, rows in shares(2, 2, 2, 20).items()}
    (found,) = under(one).conditions()
    assert found.drop == 1
    assert found.low < 0
