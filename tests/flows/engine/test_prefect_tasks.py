"""Steps as task runs, and what becomes of their states; without a Prefect server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import made_runs as made
import pytest
from made_runs import OverAtOnce, recipe
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Failed, Pending
from prefect_hone.flows.engine import promotion
from prefect_hone.flows.engine.lay_out import lay_out
from prefect_hone.flows.engine.prefect_tasks import (
    _is_worth_a_retry,
    need,
    settled,
    settled_layout,
)
from prefect_hone.flows.engine.results import StepResult
from prefect_hone.recipe.errors import HoneError, ServerUnreachable, StepCrashed, StepFailed


@dataclass
class Future:
    """Stands for Prefect's: a state, and what is in it."""

    state: State[Any]
    value: object = None
    waited: bool = False

    def wait(self) -> None:
        self.waited = True

    def result(self, raise_on_failure: bool = True) -> object:
        assert self.state.is_final(), "Prefect raises UnfinishedRun"
        if isinstance(self.value, BaseException) and raise_on_failure:
            raise self.value
        return self.value


def result(label: str = "export") -> StepResult:
    over = OverAtOnce()
    layout = lay_out(recipe(), made.surroundings(), over)
    assert layout.export.result is not None
    return next(r for r in over.done if r.label == label)


def test_a_completed_step_has_a_result() -> None:
    made_result = result()
    future = Future(Completed(), made_result)
    assert settled(future).result is made_result  # type: ignore[arg-type]
    assert future.waited


def test_a_failed_step_says_why_in_its_own_words() -> None:
    error = StepFailed("no such operator", where="layer1", do="use another")
    over = settled(Future(Failed(message="Task run encountered an exception"), error))  # type: ignore[arg-type]
    assert over.result is None
    assert over.error == str(error)
    unknown = settled(Future(Failed(message="it broke"), ValueError("x")))  # type: ignore[arg-type]
    assert unknown.error == "it broke"
    cancelled = settled(Future(Cancelled(message="a person did"), None))  # type: ignore[arg-type]
    assert cancelled.error == "a person did"


def test_a_step_that_was_never_begun_has_no_result_to_ask_for() -> None:
    waiting = Pending(
        name="NotReady", message="Upstream task run did not reach a 'COMPLETED' state"
    )
    over = settled(Future(waiting))  # type: ignore[arg-type]
    assert over.result is None
    assert "Upstream" in over.error


def test_a_whole_layout_is_settled() -> None:
    over = OverAtOnce(failing={"compress int8": "nothing to quantize"})

    def submit(call: Any, inputs: Any, after: Any = ()) -> Future:
        plain = {name: (future.over, output) for name, (future, output) in inputs.items()}
        done = over(call, plain, [future.over for future in after])
        future = Future(Completed() if done.result else Failed(message=done.error), done.result)
        future.over = done  # type: ignore[attr-defined]
        return future

    layout = settled_layout(lay_out(recipe(), made.surroundings(), submit))  # type: ignore[arg-type]
    plain, int8 = layout.candidates
    assert plain.validated is not None
    assert plain.validated.result is not None
    assert next(step.error for step in int8.steps if step.result is None) == "nothing to quantize"


def test_a_step_that_every_candidate_needs_raises() -> None:
    with pytest.raises(StepFailed):
        need(Future(Failed(), StepFailed("the loss is NaN")))  # type: ignore[arg-type]


@dataclass
class Ended:
    """Stands for a state of a task run that raised."""

    error: BaseException
    type: StateType = StateType.FAILED

    def result(self, raise_on_failure: bool = True) -> object:
        if raise_on_failure:
            raise self.error
        return self.error


@pytest.mark.parametrize(
    ("error", "again"),
    [(StepCrashed("died"), True), (StepFailed("no"), False), (ValueError("x"), False)],
)
def test_only_a_lost_worker_is_worth_a_retry(error: Exception, again: bool) -> None:
    assert _is_worth_a_retry(None, None, Ended(error)) is again  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "again"),
    [(ServerUnreachable("away"), True), (HoneError("other bytes"), False), (ValueError(), False)],
)
def test_promotion_is_tried_again_only_while_the_server_is_away(
    error: Exception, again: bool
) -> None:
    assert promotion.is_worth_a_retry(None, None, Ended(error)) is again  # type: ignore[arg-type]
    assert promotion.promote_task.retries == 2
    assert promotion.promote_task.name == "promote"


class _Settings:
    measuring_limit: str | None = None


class _Measured:
    """As much of a runner as the limit of measurements looks at."""

    def __init__(self, limit: str | None) -> None:
        settings = _Settings()
        settings.measuring_limit = limit
        self.session = type("Session", (), {"settings": settings})()


def test_a_measurement_takes_the_configured_limit_and_nothing_else_does(monkeypatch) -> None:
    from prefect.concurrency import sync
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect_hone.flows.engine.prefect_tasks import _measuring_alone
    from prefect_hone.recipe.errors import InputError
    from prefect_hone.tasks.steps import BENCHMARK, TRAIN

    taken: list[tuple[str, bool]] = []

    @contextlib.contextmanager
    def concurrency(name: str, *, occupy: int, strict: bool):
        assert occupy == 1
        if name == "missing":
            raise ConcurrencySlotAcquisitionError(name)
        taken.append((name, strict))
        yield

    monkeypatch.setattr(sync, "concurrency", concurrency)
    benchmark = type("Call", (), {"step": BENCHMARK})()
    train = type("Call", (), {"step": TRAIN})()
    for limit, call in ((None, benchmark), ("team", train), ("team", benchmark)):
        with _measuring_alone(_Measured(limit), call):
            pass
    assert taken == [("team", True)], "strict: without it a missing limit only warns"
    with pytest.raises(InputError, match="no such global concurrency limit") as caught:
        with _measuring_alone(_Measured("missing"), benchmark):
            pass
    assert "HONE_MEASURING_LIMIT=missing" in str(caught.value)
    assert "prefect gcl create missing --limit 1" in str(caught.value)
