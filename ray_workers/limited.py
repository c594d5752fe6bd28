"""A limit for waiting on something that has none of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], silent: Callable[[], Exception]) -> T:
    """The result of `work`, which runs in a thread of its own.

    Args:
        seconds: Longest wait.
        work: What may never return; it is left alone then.
        silent: The error if it takes longer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="hone-limited", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise silent()
    return results[0]
