"""Which of several errors is told, and when training starts again."""

from __future__ import annotations

import itertools

import pytest
from prefect_hone.ray_workers.training.launch.failures import FailurePolicy, says_most
from prefect_hone.ray_workers.training.launch.worker import as_hone_error
from prefect_hone.recipe.errors import (
    HoneError,
    InputError,
    Preempted,
    StepCrashed,
    StepFailed,
    StoreError,
)

#: From what is told first to what is told last.
ORDER = [
    InputError("the factory is wrong"),
    StepFailed("the loss became nan"),
    Preempted("was asked to stop"),
    StepCrashed("the worker of rank 1 died"),
    StoreError("no space left"),
    StepCrashed("the connection to another worker was lost"),
]


@pytest.mark.parametrize(("more", "less"), itertools.combinations(ORDER, 2))
def test_the_error_that_says_most_is_told(more: HoneError, less: HoneError) -> None:
    assert says_most([more, less]) is more
    assert says_most([less, more]) is more


def test_of_the_same_kind_the_first_is_told() -> None:
    first, second = StepFailed("one"), StepFailed("two")
    assert says_most([first, second]) is first


def test_training_starts_again_as_often_as_it_may() -> None:
    policy = FailurePolicy(2)
    lost = StepCrashed("a worker died")
    assert policy.start_again(lost) == "a worker died; restarting"
    assert policy.start_again(lost) == "a worker died; restarting"
    with pytest.raises(StepCrashed, match=r"a worker died \(failure 3\)") as caught:
        policy.start_again(lost)
    assert caught.value.retryable
    assert "train.max_failures" in str(caught.value.do)


def test_a_preemption_is_no_failure() -> None:
    policy = FailurePolicy(0)
    for _ in range(3):
        assert policy.start_again(Preempted("was asked to stop")).endswith("restarting")
    with pytest.raises(StepCrashed, match=r"\(failure 1\)"):
        policy.start_again(StepCrashed("a worker died"))


def test_a_reader_that_died_is_a_lost_worker_wherever_torch_raises_it() -> None:
    raised = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    found = as_hone_error(raised)
    assert isinstance(found, StepCrashed)
    assert found.where == "train.loading"
    assert "restarting" in FailurePolicy(1).start_again(found)
