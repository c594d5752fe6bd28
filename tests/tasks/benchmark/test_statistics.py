"""Intervals hold what they promise; parity measures what it says."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.ray_workers.data.groups import Grouping
from prefect_hone.ray_workers.metrics.sums import MEAN
from prefect_hone.recipe.benchmark import Benchmark
from prefect_hone.tasks.benchmark.statistics import is_settled, latency, median_interval, ratio
from prefect_hone.tasks.validate.bootstrap import bootstrap
from prefect_hone.tasks.validate.few_changes import wilson
from prefect_hone.tasks.validate.groups import Judged
from prefect_hone.tasks.validate.interval import quality_interval
from prefect_hone.tasks.validate.parity import parity
from scipy import stats


@pytest.mark.parametrize("count", [11, 20, 60])
def test_the_medians_interval_covers_at_its_confidence(count: int) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = median_interval(rng.lognormal(size=count).tolist())
        hits += low <= 1 <= high
    assert 0.94 <= hits / 1000 <= 0.99


def test_a_ratio_survives_a_machine_that_slows_down() -> None:
    rng = np.random.default_rng(0)
    speed = np.linspace(1, 3, 20)
    fast = speed * rng.normal(1.0, 0.01, 20)
    slow = 2 * speed * rng.normal(1.0, 0.01, 20)
    value, low, high = ratio(slow.reshape(4, 5).tolist(), fast.reshape(4, 5).tolist())
    assert value == pytest.approx(2, rel=0.02)
    assert low <= 2 <= high
    assert high - low < 0.05


def test_launches_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        launches = rng.normal(0, 0.013, (4, 1))  # the same artifact, launched four times
        noise = rng.normal(0, 0.005, (2, 4, 5))
        one, other = np.exp(launches + noise[0]), np.exp(noise[1])
        _, low, high = ratio(one.tolist(), other.tolist())
        held += low <= 1 <= high
    assert held / 300 >= 0.93


@pytest.mark.parametrize(
    ("slower", "spread", "settled"),
    [
        (1.0, 0.003, True),  # they differ by less than 5 %
        (1.04, 0.002, True),  # told apart, however little
        (1.05, 0.03, False),
        (1.0, 0.06, False),
        (1.4, 0.03, True),
    ],
)
def test_further_launches_are_needed_where_neither_can_be_said(
    slower: float, spread: float, settled: bool
) -> None:
    launches = np.exp(np.array([-1, 0.2, 0.8]))[:, None] ** spread
    one, other = np.full((3, 20), slower) * launches, np.ones((3, 20))
    assert is_settled(one.tolist(), other.tolist()) is settled
    assert is_settled(other.tolist(), one.tolist()) is settled


def test_asking_after_each_launch_tells_equals_apart_in_few_tries() -> None:
    told, rng, most = 0, np.random.default_rng(0), Benchmark().most_launches
    for _ in range(1000):
        one = np.exp(rng.normal(0, 0.024, (most, 1)) + rng.normal(0, 0.03, (most, 10)))
        other = np.ones((most, 10))
        count = next(
            (n for n in range(3, most) if is_settled(one[:n].tolist(), other[:n].tolist())), most
        )
        _, low, high = ratio(one[:count].tolist(), other[:count].tolist())
        told += not low <= 1 <= high
    assert told / 1000 <= 0.06


def test_latency_in_milliseconds() -> None:
    said = latency([[0.001, 0.002, 0.003]] * 221, batch_size=4)
    assert said["p50_ms"] == pytest.approx(2)
    assert said["samples_per_s"] == pytest.approx(2000)
    assert said["calls"] == 663
    assert said["p90_ms"] <= said["p99_ms"] <= 3


@pytest.mark.parametrize(("calls", "told"), [(63, ()), (66, (90,)), (660, (90,)), (663, (90, 99))])
def test_a_percentile_of_too_few_calls_is_not_told(calls: int, told: tuple[int, ...]) -> None:
    said = latency([[0.001, 0.002, 0.003]] * (calls // 3), batch_size=1)
    assert tuple(p for p in (90, 99) if said[f"p{p}_ms"] is not None) == told


@pytest.mark.parametrize(("hits", "count"), [(356, 360), (360, 360), (0, 50), (25, 50)])
def test_wilson_agrees_with_scipy(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high))


def test_a_perfect_score_still_has_an_interval() -> None:
    value, low, high = quality_interval(np.ones((40, 1)), lambda s: float(s.mean()))
    assert value == high == 1
    assert low < 0.93


def test_the_bootstrap_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_hone.tasks.validate.bootstrap._MOST", 1000)
    values = np.random.default_rng(0).normal(size=(500, 1))
    first = bootstrap(values, lambda rows: float(rows.mean()))
    assert first == bootstrap(values, lambda rows: float(rows.mean()))
    assert first == pytest.approx(bootstrap(values, MEAN)), "many resamples at once, or each"
    spread = 1.96 * values.std() / np.sqrt(500)
    assert first[1] - first[0] == pytest.approx(2 * spread, rel=0.1)


def test_parity() -> None:
    reference = np.random.default_rng(0).normal(size=(50, 10))
    same = parity(reference, reference)
    assert same["parity/max_abs_error"] == 0
    assert same["parity/cosine"] == pytest.approx(1)
    noise = np.full_like(reference, 0.01)
    found = parity(reference, reference + noise)
    expected = 10 * np.log10((reference**2).sum() / (noise**2).sum())
    assert found["parity/sqnr_db"] == pytest.approx(expected)
    assert found["parity/max_abs_error"] == pytest.approx(0.01)
    assert parity(reference, -reference)["parity/cosine"] == pytest.approx(-1)


def test_groups_show_whom_compression_hurt() -> None:
    targets = np.array([0] * 10 + [1] * 10)
    reference = np.ones((20, 1))
    candidate = np.ones((20, 1))
    candidate[15:] = 0
    judged = Judged(candidate, reference, lambda s: float(s.mean()), True)
    label = Grouping(by="label", groups=("0", "1"), members=tuple(targets))
    said = judged.metrics(judged.groups(label, np.ones(20, bool)))
    assert said["quality/worst_group"] == 0.5
    assert said["quality/worst_group_label"] == 1
    assert said["quality/worst_group_drop"] == 0.5
