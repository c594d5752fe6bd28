"""Work in a process of its own that is killed by SIGKILL, at a step or at a moment.

The process is a fork of this one, so it has imported all that it needs: its end is the only thing
that is sudden.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import mlflow
from prefect_hone.recipe.errors import InputError

from .ledger_machine import End

#: What changes a registry; a process that is killed "after so many changes" counts these.
CHANGES = (
    "create_registered_model", "create_model_version", "set_registered_model_alias",
    "delete_registered_model_alias", "set_model_version_tag",
)  # fmt: skip
_REFUSED = 3


def start(
    work: Callable[[], object], changes: int | None = None, before: Callable[[], None] | None = None
) -> int:
    """Start work; returns the process's id.

    Args:
        work: The work.
        changes: Changes of the registry after which it kills itself; None: it does not.
        before: Called first, such as a wait for others.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if changes is not None:
            _die_after(changes)
        if before is not None:
            before()
        work()
        code = 0
    except InputError:
        code = _REFUSED
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(pid: int, kill_after: float | None = None) -> End:
    """Wait for the end of a process, or kill it after a while (s).

    Raises:
        AssertionError: It failed by itself.
    """
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)  # of our own child, which nobody has waited for
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _REFUSED, -signal.SIGKILL), f"the process ended with {code}"
    return "killed" if code < 0 else "refused" if code else "done"


def _die_after(changes: int) -> None:
    left = [changes]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def change(*rest: object, **more: object) -> object:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*rest, **more)

        return change

    for name in CHANGES:
        setattr(mlflow.MlflowClient, name, dying(getattr(mlflow.MlflowClient, name)))
