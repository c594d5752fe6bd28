"""Steps as Prefect task runs: the only place that converts between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.futures import PrefectFuture

from ...ray_workers.store.artifacts import Artifact
from ...recipe.errors import HoneError, InputError, NothingChanged
from ...recipe.showable import showable
from ...tasks.steps import BENCHMARK, Call
from ..logs import about_step
from .layout import Layout
from .results import Settled, StepResult
from .runner import Runner

Future = PrefectFuture[StepResult]


class Steps:
    """Submits steps to Prefect."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.futures: list[Future] = []

    def __call__(
        self,
        call: Call,
        inputs: dict[str, tuple[Future, str]],
        after: Sequence[Future] = (),
    ) -> Future:
        retries = call.step.retries if call.retries is None else call.retries
        submitted = step_task.with_options(
            name=call.step.name,
            task_run_name=call.label.replace("{", "(").replace("}", ")"),
            retries=retries,
            retry_delay_seconds=1,
            retry_condition_fn=_is_worth_a_retry,
        )  # no tags: each would ask the server for a concurrency slot
        arguments: dict[str, Any] = {"inputs": inputs}  # Prefect puts results for the futures in it
        future: Future = submitted.submit(
            _Hidden(self._runner), call, wait_for=list(after), return_state=False, **arguments
        )
        self.futures.append(future)
        return future

    def results(self) -> list[StepResult]:
        """Results of all steps that succeeded, in order."""
        done = [f for f in self.futures if f.state.is_completed()]
        return [f.result() for f in done]


class _Hidden:
    """Keeps Prefect from searching the runner for futures."""

    __slots__ = ("runner",)

    def __init__(self, runner: Runner) -> None:
        self.runner = runner


@task(cache_policy=NO_CACHE, persist_result=False, log_prints=False)
def step_task(hidden: _Hidden, call: Call, inputs: dict[str, tuple[StepResult, str]]) -> StepResult:
    """One step; the runner does the work."""
    runner = hidden.runner
    artifacts: dict[str, Artifact] = {
        name: result.artifact(output) for name, (result, output) in inputs.items()
    }
    try:
        with about_step(call.step.name, call.candidate), _measuring_alone(runner, call):
            return runner.run(call, artifacts, get_run_logger())
    except HoneError as error:
        runner.failed.append(call.step.name)
        runner.session.observer.failed(call.label, str(error))
        raise


@contextlib.contextmanager
def _measuring_alone(runner: Runner, call: Call) -> Iterator[None]:
    """Hold the team's concurrency limit for a measurement, if one is configured.

    The lock of the machine keeps measurements on it apart anyway; a limit does so for a team whose
    nodes share a machine. Without `strict`, Prefect only warns of a missing limit, and goes on.

    Raises:
        InputError: The Prefect server has no such limit.
    """
    limit = runner.session.settings.measuring_limit
    if limit is None or call.step is not BENCHMARK:
        yield
        return
    from prefect.concurrency.sync import concurrency

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(concurrency(limit, occupy=1, strict=True))
        except ConcurrencySlotAcquisitionError:
            raise InputError(
                "the Prefect server has no such global concurrency limit",
                where=f"HONE_MEASURING_LIMIT={limit}",
                do=f"`hone setup`, or `prefect gcl create {limit} --limit 1`",
            ) from None
        yield


def _is_worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only a lost worker is worth a retry; any other failure would happen again."""
    try:
        state.result(raise_on_failure=True)
    except HoneError as error:
        return error.retryable
    except Exception:
        return False
    return False


def settled(future: Future) -> Settled:
    """Wait for a step; returns its result or error."""
    future.wait()
    if future.state.is_completed():
        return Settled(future.result())
    if not future.state.is_final():  # one that it waits for has failed; it was never begun
        return Settled(None, showable(str(future.state.message)))
    error = future.result(raise_on_failure=False)
    told = isinstance(error, HoneError)
    said = str(error) if told else showable(str(future.state.message or error))
    return Settled(None, said, unchanged=isinstance(error, NothingChanged))


def settled_layout(layout: Layout[Future]) -> Layout[Settled]:
    """Wait for all steps up to validation; returns their results or errors."""
    return layout.map(settled)


def need(future: Future) -> StepResult:
    """The result of a step without which there is no candidate."""
    result = future.result(raise_on_failure=True)
    assert isinstance(result, StepResult)  # noqa: S101 (narrows a type)
    return result
