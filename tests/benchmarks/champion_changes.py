"""A served model under load while its champion changes: were requests dropped, how long did it take?

    python -m pytest tests/benchmarks/champion_changes.py -s

10 new champions and 5 rollbacks, with 4 clients that ask one request after the other. Asked: no failed
request, and each answer from a version that was the champion at that time.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import mlflow
import pytest

from ..support.logged_models import store
from ..support.serving_load import LOOKS, change_champions

STEPS = "++-+++-++--++-+"


def test_champions(databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (STEPS.count("+"), STEPS.count("-")) == (10, 5)
    uri = store(databases, tmp_path / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    done = change_champions(uri, tmp_path, STEPS)
    answers, strangers = done.load.answers, done.strangers()
    took = sorted(1000 * (ended - began) for began, ended, _, _ in answers)
    new = [s for s, step in zip(done.seconds, STEPS, strict=True) if step == "+"]
    back = [s for s, step in zip(done.seconds, STEPS, strict=True) if step == "-"]
    print(
        f"\n{len(answers)} answers, {len(done.load.failures)} failed requests, {len(strangers)} from "
        f"a version that was not the champion\n"
        f"a request took {statistics.median(took):.1f} ms (median), {took[-1]:.0f} ms at most\n"
        f"from the alias to the first answer, the registry asked every {LOOKS} s: new champion "
        f"{statistics.median(new):.1f} s (median; {max(new):.1f} s at most), rollback "
        f"{statistics.median(back):.1f} s ({max(back):.1f} s)"
    )
    assert not done.load.failures
    assert not strangers
