"""What training tells, and tells again after it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.ray_workers.events import EpochEnd, Event, Metric, Note, Progress
from prefect_hone.ray_workers.training import log as module
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.log import Log


def make(folder: Path, enabled: bool = True) -> tuple[Log, list[Event]]:
    told: list[Event] = []
    return Log(told.append, enabled, Checkpoints(str(folder), True), epochs=2, steps=20), told


def test_only_the_worker_that_is_asked_to_tells(tmp_path: Path) -> None:
    log, told = make(tmp_path, enabled=False)
    log.metric("train/loss", 1.0, 0)
    log.note("hello")
    log.epoch(0, 1.0, "accuracy", 0.5)
    log.saved(1)
    log.restore(1)
    assert told == []
    assert not any(tmp_path.iterdir()), "and nothing is kept"


def test_after_an_interruption_the_curve_is_told_again(tmp_path: Path) -> None:
    log, told = make(tmp_path)
    for step in range(4):
        log.metric("train/loss", 1.0 / (step + 1), step)
        if step == 2:
            log.saved(3)
    again, told_again = make(tmp_path)
    again.restore(3)
    assert told_again == told[:3], "with its first times; what came after step 3 comes anew"


def test_an_epoch_in_a_line(tmp_path: Path) -> None:
    log, told = make(tmp_path)
    log.epoch(0, 0.25, "accuracy", 0.875)
    log.note("ok")
    line = "epoch 1/2: loss 0.2500, validation accuracy 0.8750"
    assert told == [EpochEnd(line, 1, 2), Note("ok")]


def test_progress_comes_a_few_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    log, told = make(tmp_path)
    for step in range(11):
        log.live(0, step, 0.5, 32, lambda: "1.0 GB")
        now[0] += 0.1
    assert all(isinstance(event, Progress) for event in told)
    assert 3 <= len(told) <= 4
    last = told[-1]
    assert isinstance(last, Progress)
    assert last.total == 20
    assert "320 samples/s" in last.text
    assert not any(isinstance(event, Metric) for event in told)
