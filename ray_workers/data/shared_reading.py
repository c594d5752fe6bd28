"""What a step read of data sets that are no torch data sets, for the other steps of the run.

A Ray dataset is read by Ray's tasks, which takes seconds for a few hundred rows, and every
measurement of every candidate needs the same rows. `shared_data.py` keeps them.
"""

from __future__ import annotations

import pickle
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ...recipe.data import Data
from .shared_data import FAST, pickled
from .turns import Shared, once

T = TypeVar("T")
#: What the factory returned to this process last, the data of the run, and the factory's key.
_asked: tuple[weakref.ref[Data], Shared, str] | None = None


def share_reading(data: Any, shared: Shared | None, key: str) -> None:
    """Share what is read of what a data factory returned; None: it is read without telling anybody.

    Args:
        data: What it returned.
        shared: The data of the run.
        key: Of the data factory.
    """
    global _asked
    _asked = None
    if shared is not None and isinstance(data, Data):  # an idle worker does not keep the data
        _asked = weakref.ref(data), shared, f"{key} read"


def read_once(data: Any, what: str, read: Callable[[], T]) -> T:
    """What another step of the run read, or what this one reads.

    Args:
        data: What the factory returned.
        what: Which part of it.
        read: Reads it.
    """
    if _asked is None or _asked[0]() is not data:
        return read()
    shared, key = _asked[1], f"{_asked[2]} {what}"

    def make() -> tuple[T, Callable[[], bytes | None]]:
        started = time.monotonic()
        made = read()
        slow = time.monotonic() - started >= FAST
        return made, lambda: pickled(made) if slow else None

    found: T = once(shared, key, make, _taken)[0]
    return found


def _taken(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return pickle.loads(content)  # noqa: S301 (written by `pickled`, in this run)
    except Exception:  # whatever a class of the user's raises
        return None
