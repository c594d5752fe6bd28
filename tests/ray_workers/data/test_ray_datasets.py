"""Ray datasets: each row once an epoch, whatever the number of readers; resumed at the exact one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.data.groups import groupings
from prefect_hone.ray_workers.data.ray_datasets import HEAD, Feeder, RayFeed, travel_by_value
from prefect_hone.ray_workers.data.split_format import Feed
from prefect_hone.ray_workers.data.splits import split
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from ray_training import cluster, train_project

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2] / "project"


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    use_code(PROJECT)
    with cluster(3) as made:
        yield made


def test_what_a_step_kept_of_a_slow_factory_outlives_its_worker(ray_cluster: Any) -> None:
    import os
    import signal

    import ray
    from prefect_hone.ray_workers.channel import open_channel
    from prefect_hone.ray_workers.data.shared_data import ThroughRay

    channel = open_channel()

    @ray.remote(max_retries=0)
    def first() -> int:
        assert ThroughRay(channel).turn("wine") == ("make", None)
        ThroughRay(channel).settle("wine", b"rows" * 100_000)
        return os.getpid()

    shared = ThroughRay(channel)
    os.kill(ray.get(first.remote()), signal.SIGKILL)
    what, reference = shared.turn("wine")
    assert what == "take"
    assert shared.content(reference) == b"rows" * 100_000
    assert shared.turn("digits") == ("make", None)
    assert shared.settle("digits", None) is None
    assert shared.turn("digits") == ("call", None)


def make_feed(**arguments: Any) -> Feed:
    import ray
    import wine_data

    data = wine_data.streamed(**arguments)
    travel_by_value()
    feeder = ray.remote(num_cpus=0)(Feeder).remote(data, 0)
    return RayFeed(split(data, 0), data.inputs, data.target, data.shuffle_rows, feeder, 0)


def read(feed: Feed, epoch: int, readers: int, size: int, skip: int = 0) -> list[list[Any]]:
    """What each reader gets: batches of (inputs, how many count), all readers at once."""
    found: list[list[Any]] = [[] for _ in range(readers)]

    def one(reader: int) -> None:
        for rows, own in feed.rows(epoch, readers, reader, size, skip):
            found[reader].append((rows.columns["features"], own))

    threads = [threading.Thread(target=one, args=(reader,)) for reader in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_each_row_counts_once_an_epoch_and_comes_in_the_same_order_again(ray_cluster: Any) -> None:
    import wine_data

    expected = np.stack([sample[0].numpy() for sample in wine_data.wine().train])[:137]
    feed = make_feed(rows=137)
    found = read(feed, epoch=0, readers=2, size=16)
    assert [len(batches) for batches in found] == [5, 5], "every reader has the same steps"
    counted = np.concatenate([x[:own] for batches in found for x, own in batches])
    assert len(counted) == 137
    assert np.allclose(np.sort(counted, axis=0), np.sort(expected, axis=0))

    rest = read(make_feed(rows=137), epoch=0, readers=2, size=16, skip=3)
    for whole, resumed in zip(found, rest, strict=True):
        assert len(resumed) == 2
        for (x, own), (again, own_again) in zip(whole[3:], resumed, strict=True):
            assert own == own_again
            assert np.array_equal(x, again), "resumed at the exact row"

    other = read(feed, epoch=1, readers=2, size=16)
    assert not np.array_equal(other[0][0][0], found[0][0][0]), "another epoch, another order"


@pytest.mark.parametrize(
    ("rows", "times", "blocks", "readers", "size"), [(128, 1, 7, 1, 32), (120, 2, 9, 2, 30)]
)
def test_only_the_last_batch_is_short(
    ray_cluster: Any, rows: int, times: int, blocks: int, readers: int, size: int
) -> None:
    """Ray's shuffle buffer gave short ones in mid-epoch, of other sizes to each reader."""
    found = read(make_feed(rows=rows, times=times, blocks=blocks), 0, readers, size)
    counts = [[own for _, own in batches] for batches in found]
    assert counts == [[size] * (rows * times // readers // size)] * readers


def test_wrong_columns_and_no_validation_are_told(ray_cluster: Any) -> None:
    from dataclasses import replace

    import wine_data

    with pytest.raises(InputError, match=r"no column 'feature': did you mean 'features'\?"):
        split(wine_data.streamed(inputs="feature"), 0)
    with pytest.raises(InputError, match="needs a validation split"):
        split(replace(wine_data.streamed(), validation=None), 0)


def test_columns_of_groups_are_read_and_weights_that_nothing_reads_are_refused(
    ray_cluster: Any,
) -> None:
    from dataclasses import replace

    import ray.data
    import wine_data

    data = wine_data.streamed()
    rows = [{data.inputs: x.numpy(), data.target: int(y)} for x, y in data.test]
    sites = [{**row, "site": "ab"[i % 2]} for i, row in enumerate(rows)]
    splits = split(replace(data, test=ray.data.from_items(sites), groups=("site",)), 0)
    (found,) = groupings(splits, ["site"], Allowed())
    assert found.groups == ("a", "b")
    assert found.members == tuple(i % 2 for i in range(len(rows)))
    weighted = ray.data.from_items([{**row, "sample_weight": 2.0} for row in rows])
    with pytest.raises(InputError, match="column 'sample_weight', which nothing reads"):
        split(replace(data, test=weighted), 0)


def job(folder: Path, **train: Any) -> TrainJob:
    return TrainJob.model_validate(
        {
            "model": {"factory": "wine_model:net"},
            "data": {"factory": "wine_data:streamed"},
            "train": {
                "epochs": 3, "batch_size": 32, "deterministic": True,
                "optimizer": {"name": "adam", "lr": 0.01}, **train,
            },
            "metric": "accuracy", "higher_is_better": True,
            "allowed": {"prefixes": [], "modules": ["wine_model", "wine_data"]},
            "checkpoints": str(folder),
        }
    )  # fmt: skip


@pytest.mark.nightly
def test_it_trains_on_two_workers_and_goes_on_in_the_middle_of_an_epoch(
    ray_cluster: Any, tmp_path: Path
) -> None:
    whole = train_project(job(tmp_path / "whole", mesh={"data": 2}), tmp_path)
    whole.finish()
    losses = whole.curve()
    assert sorted(losses) == list(range(3 * 5))
    assert losses[14] < losses[0] / 2

    settings = {"mesh": {"data": 2}, "checkpoint": {"every_steps": 1, "asynchronous": False}}
    killed = job(tmp_path / "killed", **settings).model_copy(
        update={"model": job(tmp_path).model.model_copy(update={
            "factory": "wine_model:dying", "args": {"marker": str(tmp_path / "died"), "after": 7}})}
    )  # fmt: skip
    going_on = train_project(killed, tmp_path)
    going_on.finish()
    assert (tmp_path / "died").exists()
    assert any("resuming after step" in note for note in going_on.notes()), going_on.notes()
    assert going_on.curve() == pytest.approx(losses, abs=1e-6)


def test_a_cluster_without_a_cpu_to_read_with_is_refused(ray_cluster: Any, tmp_path: Path) -> None:
    refused = train_project(job(tmp_path / "ck", mesh={"data": 3}), tmp_path)
    with pytest.raises(InputError, match="beside a CPU that reads the Ray dataset"):
        refused.finish()


def test_int8_rounding_is_trained_on_rows_of_a_stream(ray_cluster: Any, tmp_path: Path) -> None:
    """Its samples are read by index, which only the stream's first rows can be."""
    asked = job(tmp_path / "ck", epochs=1, batch_size=138)
    data = asked.data.model_copy(update={"args": {"times": 4}})
    training = train_project(asked.model_copy(update={"qat": True, "data": data}), tmp_path)
    training.finish()
    assert HEAD < 4 * 138
    assert sorted(training.curve()) == list(range(4))
