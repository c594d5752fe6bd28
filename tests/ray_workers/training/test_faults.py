"""Workers and nodes that go away in the middle, and come: the same curve, each step once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gang import together
from gang import train as train_alone
from prefect_hone.recipe.errors import InputError
from ray_training import PROJECT, Training, charlm_job, cluster, train_project

pytestmark = pytest.mark.slow


def training_workers() -> list[psutil.Process]:
    """Worker processes that this test's clusters started and that train now."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::_Worker.train" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of one process that nothing happens to."""
    job = charlm_job(tmp_path_factory.mktemp("alone"), epochs=6)
    (events,) = together(1, train_alone, job.model_dump(mode="json"), None, str(PROJECT))
    return {e["step"]: e["value"] for e in events if e.get("name") == "train/loss"}


def stopped_in_order(training: Training) -> None:
    """The training went on at the step at which a worker was asked to stop."""
    stopped = next(note for note in training.notes() if "asked to stop at step" in note)
    step = int(stopped.split("asked to stop at step ")[1].split(";")[0])
    goes_on = next(note for note in training.notes() if "resuming after" in note)
    epoch, rest = divmod(step, 10)
    assert (f"step {rest} of epoch {epoch + 1}" if rest else f"epoch {epoch}") in goes_on


def test_a_worker_is_preempted_a_node_is_lost_and_others_join(
    expected: dict[int, float], tmp_path: Path
) -> None:
    job = charlm_job(
        tmp_path / "ck", epochs=6, mesh={"data": {"min": 1, "max": 3}}, wait_for_workers=60,
        checkpoint={"every_steps": 2}, resources={"cpus": 1}, max_failures=1,
        loading={"workers": 0},  # so that the slow samples keep it busy
    )  # fmt: skip
    job = job.model_copy(update={"data": job.data.model_copy(update={"args": {"delay": 0.02}})})
    with cluster(0, 1) as nodes:  # the head, which is never lost, trains nothing
        second = nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        nodes.wait_for_nodes()
        training = train_project(job, tmp_path)
        training.wait_for(text="trains with 2 workers")
        training.wait_for(step=5)
        os.kill(training_workers()[0].pid, signal.SIGTERM)
        training.wait_for(text="asked to stop")  # which is no failure
        training.wait_for(step=8)
        stopped_in_order(training)
        nodes.remove_node(second, allow_graceful=False)
        training.wait_for(text="trains with 1 workers")
        training.wait_for(step=14)
        for _ in range(2):
            nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        training.wait_for(text="stops at a checkpoint to take them")
        training.wait_for(text="trains with 3 workers")
        training.finish()
    assert training.curve() == pytest.approx(expected, abs=1e-4), "the global batch was kept"


@pytest.mark.nightly
def test_more_workers_than_the_cluster_holds_is_told_or_waited_for(tmp_path: Path) -> None:
    with cluster(1) as nodes:
        refused = train_project(charlm_job(tmp_path / "a", mesh={"data": 2}), tmp_path)
        with pytest.raises(InputError, match=r"needs 2 workers with 1 CPU each; .* room for 1 now"):
            refused.finish()
        waiting = train_project(
            charlm_job(tmp_path / "b", mesh={"data": 2}, wait_for_workers=60), tmp_path
        )
        waiting.wait_for(text="waiting for 2 workers; there is room for 1")
        nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        waiting.finish()


class TestTwoWorkers:
    """On one cluster with room for two."""

    @pytest.fixture(scope="class", autouse=True)
    def two(self) -> Iterator[None]:
        with cluster(2):
            yield

    @pytest.mark.nightly
    def test_workers_killed_at_random_moments(
        self, expected: dict[int, float], tmp_path: Path
    ) -> None:
        kills, chance = 3, random.Random(0)
        job = charlm_job(
            tmp_path / "ck", epochs=6, mesh={"data": 2}, checkpoint={"every_steps": 3},
            max_failures=kills,
        )  # fmt: skip
        training = train_project(job, tmp_path)
        for number in range(kills):
            training.wait_for(step=12 * number + chance.randrange(3, 12))
            os.kill(chance.choice(training_workers()).pid, signal.SIGKILL)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if sum("restarting" in note for note in training.notes()) > number:
                    break
                time.sleep(0.05)
        training.finish()
        assert sum("restarting" in note for note in training.notes()) == kills
        assert training.curve() == pytest.approx(expected, abs=1e-4)

    @pytest.mark.nightly
    def test_a_preempted_worker_leaves_a_checkpoint_first(
        self, expected: dict[int, float], tmp_path: Path
    ) -> None:
        job = charlm_job(tmp_path / "ck", epochs=6, mesh={"data": 2}, max_failures=0)
        training = train_project(job, tmp_path)
        training.wait_for(step=13)
        os.kill(training_workers()[0].pid, signal.SIGTERM)
        training.wait_for(text="asked to stop")
        training.finish()
        stopped_in_order(training)
        assert training.curve() == pytest.approx(expected, abs=1e-4)

    @pytest.mark.nightly
    def test_ray_train_runs_the_same_loop(self, expected: dict[int, float], tmp_path: Path) -> None:
        job = charlm_job(tmp_path / "ck", epochs=6, mesh={"data": 2}, launcher="ray-train")
        training = train_project(job, tmp_path)
        training.finish()
        assert training.curve() == pytest.approx(expected, abs=1e-4)
