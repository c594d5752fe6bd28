"""What happens when workers fail: which error is reported, and whether training restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....recipe.errors import HoneError, InputError, Preempted, StepCrashed, StepFailed

#: Which error is reported: a user's mistake, then an error that a worker explained, then a death.
_SAYS_MOST: tuple[Callable[[HoneError], bool], ...] = (
    lambda error: isinstance(error, InputError),
    lambda error: isinstance(error, StepFailed),
    lambda error: isinstance(error, Preempted),
    lambda error: isinstance(error, StepCrashed) and "connection" not in error.what,
    lambda error: not isinstance(error, StepCrashed),
    lambda error: True,
)


def says_most(errors: Sequence[HoneError]) -> HoneError:
    """The most informative of the errors that workers raised or died of.

    When a worker dies, its neighbors also raise errors, about a lost connection.
    """
    return next(error for tells in _SAYS_MOST for error in errors if tells(error))


class FailurePolicy:
    """Decides whether training restarts.

    Args:
        max_failures: How many lost workers are tolerated.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self._failures = 0

    def start_again(self, error: StepCrashed) -> str:
        """The message before the next attempt; a preemption does not count as a failure.

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
