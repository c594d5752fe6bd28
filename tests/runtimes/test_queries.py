"""Queries that arrive at given times: each is answered once, in order, and waiting counts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from prefect_hone.runtimes.predict import Arrays
from prefect_hone.runtimes.queries import answer_queries

ONE: list[Arrays] = [{"input": np.ones((1, 1))}]


def answering(seconds: float) -> object:
    def predict(inputs: Arrays) -> np.ndarray:
        time.sleep(seconds)
        return inputs["input"]

    return predict


def test_waiting_counts(tmp_path: Path) -> None:
    """Two that arrive at once: the second waits for the first."""
    arrivals = np.array([0.0, 0.0, 0.2])
    latencies, lost = answer_queries(
        answering(0.03), ONE, arrivals, time.monotonic() + 0.05, tmp_path / "n", 10.0, 3
    )  # type: ignore[arg-type]
    assert len(latencies) == 3
    assert latencies[0] >= 0.03
    assert latencies[1] >= 0.06
    assert latencies[1] > latencies[2] >= 0.03
    assert lost >= 0


def test_it_stops_when_too_many_are_late(tmp_path: Path) -> None:
    latencies, _ = answer_queries(
        answering(0.002), ONE, np.zeros(1000), time.monotonic(), tmp_path / "n", 0.001, 4
    )  # type: ignore[arg-type]
    assert len(latencies) == 5
    assert (tmp_path / "n").stat().st_size >= 1000, "others that answer stop, too"


def test_two_that_answer_share_the_queries(tmp_path: Path) -> None:
    found: list[list[float]] = []
    begin = time.monotonic() + 0.05

    def work() -> None:
        found.append(answer_queries(
            answering(0.002), ONE, np.zeros(40), begin, tmp_path / "n", 10.0, 40
        )[0])  # type: ignore[arg-type]  # fmt: skip

    both = [threading.Thread(target=work) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sum(map(len, found)) == 40, "each query is answered once"
    assert min(map(len, found)) >= 5
