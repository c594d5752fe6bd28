"""What a cluster has room for: in all, and on one node."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest
from prefect_hone.ray_workers.cluster import Cluster, capacity_of, require_capacity
from prefect_hone.ray_workers.importing import importing_alone
from prefect_hone.recipe.errors import HoneError, InputError

NODES = [{"memory": 1e9}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}]


class Joined(Cluster):
    """A cluster of these nodes."""

    def __init__(self, nodes: list[dict[str, float]], address: str | None = "head:6379") -> None:
        super().__init__(address)
        self.nodes = nodes

    def _nodes(self) -> list[dict[str, float]]:
        return self.nodes


def test_a_measurement_takes_a_whole_node_of_the_cluster_whatever_this_machine_has() -> None:
    """With the cores of this machine it would wait forever, or not be alone."""
    cluster = Joined(NODES)
    assert cluster.whole_node(cpus=2, gpus=0) == 64
    assert cluster.whole_node(cpus=128, gpus=1) == 16
    assert cluster.whole_node(cpus=2, gpus=4) == 2, "a node may come"
    assert Joined([], None).whole_node(cpus=2, gpus=0) == 2


def test_a_worker_that_fits_on_no_node_is_refused() -> None:
    capacity = Joined(NODES).capacity()
    assert (capacity.cpus, capacity.gpus) == (88, 2)
    require_capacity(capacity, workers=2, cpus=40, gpus=0)
    with pytest.raises(InputError, match="3 workers with 40 CPU each need 120 CPUs"):
        require_capacity(capacity, workers=3, cpus=40, gpus=0)
    with pytest.raises(
        InputError, match="needs 65 CPUs, and the largest node of the cluster has 64"
    ):
        require_capacity(capacity, workers=1, cpus=65, gpus=0)
    with pytest.raises(InputError, match="the cluster has 0"):
        require_capacity(capacity_of([]), workers=1, cpus=1, gpus=0)


@pytest.mark.parametrize("ask", ["capacity", "memory"])
def test_ray_that_can_not_be_imported_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    """By the thread that starts it, not by one that asks afterwards for what it left."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HoneError, match=r"Ray can't be started here: .*ray"):
        getattr(Cluster(), ask)()


def test_one_thread_at_a_time_imports_large_libraries() -> None:
    inside, most = [], []

    def work() -> None:
        with importing_alone(), importing_alone():  # one import may need another
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1, 1, 1]


def test_heads_that_close_ends_are_not_lost() -> None:
    """Steps of other threads ask while it is closed."""
    cluster = Cluster()
    head = subprocess.Popen([sys.executable, "-c", "pass"])
    cluster._heads = {"raylet": psutil.Process(head.pid)}
    head.wait()
    cluster._stop.set()
    assert cluster.gone() is None
    cluster._stop.clear()
    assert "node process (the raylet) ended while the run used it" in str(cluster.gone())
