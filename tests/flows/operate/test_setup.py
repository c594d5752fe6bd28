"""What `hone setup` asks a Prefect server for; tests/journeys/test_stack.py does it on a real one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prefect_hone.flows.operate.deployments import HEARTBEAT, Asked, build
from prefect_hone.flows.operate.setup import (
    Change,
    Wanted,
    check,
    servers_here,
    zombie_automation,
)
from prefect_hone.recipe.errors import InputError


def test_a_zombie_is_a_run_of_hone_that_misses_three_heartbeats() -> None:
    trigger = zombie_automation().trigger
    assert trigger.within == timedelta(seconds=3 * HEARTBEAT)
    assert trigger.posture.value == "Proactive"
    assert trigger.after == {"prefect.flow-run.heartbeat"}
    # A run ends in states of any name, so any of its events is a sign of life.
    for event in ("heartbeat", "Completed", "NoCandidatePassed", "AwaitingApproval"):
        assert trigger.expects(f"prefect.flow-run.{event}") if hasattr(trigger, "expects") else (
            "prefect.flow-run.*" in trigger.expect
        )  # fmt: skip
    assert "prefect.tag.hone" in str(trigger.match_related)


def test_runs_of_a_pool_send_the_heartbeats_that_are_counted() -> None:
    pooled = build(Asked("a", pool="hone", job_variables={"env": {"X": "1"}, "image": "i"}))
    assert pooled.job_variables == {
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT), "X": "1"}, "image": "i",
    }  # fmt: skip
    assert "hone" in pooled.tags
    assert not build(Asked("a")).job_variables


def test_a_dry_run_says_would() -> None:
    assert Change("work pool", "hone", "created").told(True) == "work pool hone: would be created"
    assert Change("work pool", "hone", "created").told(False) == "work pool hone: created"
    assert Change("work pool", "hone", "as it was").told(True) == "work pool hone: as it was"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [(Wanted(measurements=0), "--measurements"), (Wanted(block="a b"), "--block")],
)
def test_what_can_not_be_made(wanted: Wanted, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(wanted)


def test_the_block_has_the_servers_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLFLOW_TRACKING_USERNAME": "hone",
        "MLFLOW_TRACKING_PASSWORD": "canary-5d0e1b", "RAY_ADDRESS": "ray:6379",
        "RAY_AUTH_TOKEN": "canary-9c21aa", "HONE_STORE": "memory://hone",
        "HONE_ALLOWED_PREFIXES": "mine, yours", "HONE_GATES": '[{"metric": "size.bytes", "at_most": 1}]',
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    block = servers_here("hone-measuring")
    expected = {
        **values,
        "HONE_ALLOWED_PREFIXES": "mine,yours",
        "HONE_MEASURING_LIMIT": "hone-measuring",
    }
    found = block.variables()
    assert {name: found[name] for name in expected} == expected
    assert "canary" not in repr(block)
