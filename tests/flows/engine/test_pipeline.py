"""The state that a flow run ends in: it says what came of the run, and what is left to do."""

from __future__ import annotations

import made_runs as made
import pytest
from made_runs import INT8, MEASURED, benchmarked, recipe, results, usual
from prefect.client.schemas.objects import StateType
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.pipeline import final_state, told_by_state
from prefect_hone.flows.engine.record import promoted, registered
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.recipe.schema import PromotionMode
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


def test_the_mode_is_no_part_of_the_recipes_digest() -> None:
    assert recipe(promotion="off").digest() == recipe().digest()
