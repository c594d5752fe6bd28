"""The trained model's quality: test splits and metrics that have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.recipe.errors import InputError
from steps_bench import BASE, Bench

ALONE = {"data": {"factory": "wine_data:wine", "args": {"fault": "one"}}}


@pytest.fixture(scope="module")
def bench(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared_project, tmp_path_factory.mktemp("reference"))


def metrics(bench: Bench, name: str) -> dict[str, float]:
    spec = {**BASE, **ALONE, "metric": name}
    return bench.run("validate.reference:reference", spec, weights=bench.weights()).metrics


def test_one_test_sample_is_told(bench: Bench) -> None:
    (note,) = bench.check(**ALONE).notes
    assert "the test split has one sample" in note


def test_one_test_sample_has_no_interval_but_of_a_share(bench: Bench) -> None:
    share = metrics(bench, "accuracy")
    assert share["quality/accuracy_high"] - share["quality/accuracy_low"] > 0.7
    assert metrics(bench, "cross_entropy").keys() == {"quality/cross_entropy"}


def test_a_metric_without_a_value_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match=r"'auroc' of the trained model is nan on the test split"):
        metrics(bench, "auroc")


@pytest.mark.parametrize("name", ["top5_accuracy", "rmse", "iou", "mean_average_precision"])
def test_check_refuses_a_metric_that_does_not_fit(bench: Bench, name: str) -> None:
    with pytest.raises(InputError, match=f"the metric '{name}' can't judge the model's output"):
        bench.check(metric=name)
