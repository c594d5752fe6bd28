"""A session with real processes: durations, memory, cold start; one that fails is left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from prefect_hone.recipe.benchmark import Offline, Server
from prefect_hone.tasks.benchmark import scenarios
from prefect_hone.tasks.benchmark import session as module
from prefect_hone.tasks.benchmark.scenarios import Scenarios
from prefect_hone.tasks.benchmark.session import Entrant, Until, run_session, short_rounds_in

LOADERS = """
import time

def quick(folder, options):
    time.sleep(0.15)
    return lambda inputs: inputs["input"]

def slow_at_first(folder, options):
    calls = []
    def run(inputs):
        if not calls:
            calls.append(time.sleep(0.1))
        return inputs["input"]
    return run

def takes_a_while(folder, options):
    def run(inputs):
        time.sleep(0.0005)
        return inputs["input"]
    return run

def refuses(folder, options):
    raise ValueError("bad file")
"""


def test_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "session_loaders.py").write_text(LOADERS)
    given = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(tmp_path), *([given] if given else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(module, "_FEWEST_ROUNDS", 2)
    entrants = [
        Entrant(name, f"session_loaders:{name}", tmp_path, {"threads": 1})
        for name in ("quick", "slow_at_first", "refuses")
    ]
    batches = {1: [{"input": np.ones((1, 2), np.float32)}]}
    found = run_session(entrants, batches, 0.04, launches=2, cold=True)
    assert set(found.failed) == {"refuses"}
    assert set(found.calls) == {"quick", "slow_at_first"}
    assert len(found.calls["quick"][1]) == 2, "launches"
    assert all(len(calls) >= 2 for launch in found.calls["quick"][1] for calls in launch)
    assert found.memory["quick"] > 5_000_000
    assert found.gpu_memory == {}
    assert found.joules == {"quick": {}, "slow_at_first": {}} or found.joules["quick"][1] > 0
    load, first = found.cold["quick"]
    assert 0.15 < load <= first < load + 0.1
    load, first = found.cold["slow_at_first"]
    assert first - load >= 0.1, "the first answer takes longer than others"
    seen: list[int] = []

    def settled(calls: dict[str, dict[int, module.Calls]]) -> bool:
        seen.append(len(calls["quick"][1]))
        return len(seen) == 2

    once = run_session(entrants[:1], batches, 0.02, 1, until=Until(1, 4, settled))
    assert once.cold == {}
    assert seen == [1, 2], "asked after each launch"
    assert len(once.calls["quick"][1]) == 2, "launched until it was settled"


def test_slices_are_as_short_as_calls_allow() -> None:
    assert short_rounds_in(0.25, 0.0002) == 25
    assert short_rounds_in(0.25, 0.004) == 12
    assert short_rounds_in(0.25, 0.5) == short_rounds_in(0.25, 0.02) == 5, "slow calls"
    assert short_rounds_in(150, 0.0002) == 100


def test_scenarios_with_real_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "session_loaders.py").write_text(LOADERS)
    given = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(tmp_path), *([given] if given else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(module, "_FEWEST_ROUNDS", 2)
    monkeypatch.setattr(scenarios, "_LONG_SLICE", 0.05)
    monkeypatch.setattr(scenarios, "_STEPS", 2)
    batches = {size: [{"input": np.ones((size, 2), np.float32)}] for size in (1, 4)}
    entrants = [Entrant("some", "session_loaders:takes_a_while", tmp_path, {"threads": 1})]
    asked = (
        Offline(kind="offline", instances=2),
        Server(kind="server", p99_ms=500, seconds=2, instances=2),
    )
    measure = Scenarios(asked, batches, 4, 0.02, 1)
    found = run_session(entrants, batches, 0.02, launches=1, scenarios=measure)
    assert found.failed == {}
    offline, server = found.scenarios["some"]["offline"], found.scenarios["some"]["server"]
    assert offline.rate is not None
    assert 0 < offline.rate < 2 * 4 / 0.0005, "no process is faster than its sleep"
    assert server.rate is not None, server.problem
    assert server.calls >= 2 * 662
    assert server.p99_ms is not None
    assert 0.5 <= server.p99_ms <= 500
