"""The state that a flow run ends in: it says what came of the run, and what is left to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import made_runs as made
import pytest
from made_runs import INT8, MEASURED, benchmarked, recipe, results, usual
from prefect.client.schemas.objects import StateType
from prefect_hone.flows.engine import pipeline, training
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.pipeline import final_state, run_pipeline, told_by_state
from prefect_hone.flows.engine.record import promoted, registered
from prefect_hone.flows.engine.session import Session
from prefect_hone.flows.engine.training import run_training
from prefect_hone.recipe.errors import InputError, StepFailed, StoreError
from prefect_hone.recipe.schema import PromotionMode, Recipe
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.report.table import headline
from prefect_hone.tasks.tracking.registry import Promotion, Registered


def concluded(mode: PromotionMode, *, drop: float = 0.0) -> Outcome:
    asked = recipe(promotion=mode)
    steps = usual(fp32=drop, int8=drop)
    return conclude(asked, "r1", results(asked, steps, benchmarked(MEASURED), made.surroundings()))


def version(current: str | None, number: str = "4") -> Registered:
    return Registered(model="wine", version=number, alias="champion", new=True, current=current)


def test_a_champion() -> None:
    done = Promotion(model="wine", version="4", alias="champion", new=True, previous="3")
    state = final_state(promoted(concluded("auto"), done))
    assert (state.type, state.name) == (StateType.COMPLETED, "Completed")
    assert state.message is not None
    assert state.message.startswith(f"{INT8}: ")


@pytest.mark.parametrize(
    ("mode", "name", "said"),
    [
        (
            "dry-run",
            "DryRun",
            "version 4; dry run: a promotion would move @champion from version 3",
        ),
        (
            "approve",
            "AwaitingApproval",
            "version 4 awaits approval to move @champion from version 3",
        ),
    ],
)
def test_a_winner_that_is_registered_only(mode: PromotionMode, name: str, said: str) -> None:
    outcome = registered(concluded(mode), version("3"))
    state = final_state(outcome)
    assert (state.type, state.name) == (StateType.COMPLETED, name)
    assert said in str(state.message)
    assert headline(outcome).startswith(f"Winner: {INT8} (models:/wine ")
    first = registered(concluded(mode), version(None))
    assert "@champion to its first version" in headline(first)


def test_a_winner_that_is_not_registered() -> None:
    outcome = concluded("off")
    assert final_state(outcome).name == "NotPromoted"
    assert "not registered: promotion is off" in headline(outcome)


@pytest.mark.parametrize("mode", ["off", "dry-run", "approve", "auto"])
def test_no_candidate_passed(mode: PromotionMode) -> None:
    state = final_state(concluded(mode, drop=0.5))
    assert (state.type, state.name) == (StateType.FAILED, "NoCandidatePassed")


def test_the_champion_needs_no_approval_to_stay_it() -> None:
    outcome = registered(concluded("approve"), version("4"))
    assert outcome.pending is None
    assert outcome.champion is not None
    assert not outcome.champion.new
    assert final_state(outcome).name == "Completed"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (InputError("no such field", where="train"), "InvalidInput"),
        (StepFailed("it broke"), "Failed"),
    ],
)
def test_a_mistake_is_told_by_the_state(error: Exception, name: str) -> None:
    def work() -> None:
        raise error

    state = told_by_state(work)  # type: ignore[arg-type]
    assert (state.type, state.name) == (StateType.FAILED, name)
    assert state.message == str(error)


def test_a_full_disk_is_told_by_the_state_whoever_noticed_it() -> None:
    def work() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/hone/journal")
        except OSError as error:
            raise RuntimeError("database or disk is full") from error

    state = told_by_state(work)  # type: ignore[arg-type]
    assert state.type == StateType.FAILED
    assert state.message is not None
    assert "no space or no inodes are left" in state.message


@pytest.mark.parametrize("flow", [run_pipeline, run_training])
def test_a_full_disk_ends_a_deployments_run_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Callable[[Recipe, Session], object]
) -> None:
    session = made.session(tmp_path)
    full = os.statvfs_result((4096, 4096, 1000, 0, 0, 1000, 1000, 1000, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: full)
    monkeypatch.setattr(session.cluster, "prepare", lambda: pytest.fail("Ray was started"))
    for module in (pipeline, training):
        for name in ("about_flow_run", "name_flow_run"):
            monkeypatch.setattr(module, name, lambda _: None)
    monkeypatch.setattr(pipeline, "make_plan", lambda *_: SimpleNamespace(to_compute=1))
    missing = SimpleNamespace(cached=False, again=False)
    monkeypatch.setattr(training, "plan_training", lambda *_: (recipe(), [missing]))
    with pytest.raises(StoreError, match="no space or no inodes are left on the disk"):
        flow(recipe(), session)


def test_the_mode_is_no_part_of_the_recipes_digest() -> None:
    assert recipe(promotion="off").digest() == recipe().digest()
