"""What is made of workers that fail: which error is told, and whether training starts again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....recipe.errors import HoneError, InputError, Preempted, StepCrashed, StepFailed

#: Which error is told: a user's mistake, then what a worker explained, then a death.
_SAYS_MOST: tuple[Callable[[HoneError], bool], ...] = (
    lambda error: isinstance(error, InputError),
    lambda error: isinstance(error, StepFailed),
    lambda error: isinstance(error, Preempted),
    lambda error: isinstance(error, StepCrashed) and "connection" not in error.what,
    lambda error: not isinstance(error, StepCrashed),
    lambda error: True,
)


def says_most(errors: Sequence[HoneError]) -> HoneError:
    """Of what workers raised and died of, the error that tells what happened.

    A worker that dies makes its neighbours raise too, in words about a lost connection.
    """
    return next(error for tells in _SAYS_MOST for error in errors if tells(error))


class FailurePolicy:
    """Decides whether training starts again.

    Args:
        max_failures: Times that it goes on after a lost worker.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self._failures = 0

    def start_again(self, error: StepCrashed) -> str:
        """What to tell before the next attempt; a preemption is none of the failures.

        Raises:
            StepCrashed: There is no next attempt.
        """
        if not isinstance(error, Preempted):
            self._failures += 1
            if self._failures > self._max_failures:
                raise StepCrashed(
                    f"{error.what} (failure {self._failures})",
                    where="train",
                    do="check for workers out of memory and for lost nodes, or raise "
                    "train.max_failures",
                ) from error
        return f"{error.what}; restarting"
