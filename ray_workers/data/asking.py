"""Calls the data factory, which may take minutes: its progress is shown."""

from __future__ import annotations

import threading
import time
from typing import Any

from ...recipe.factories import Allowed
from ...recipe.model import DataFactory
from ..events import Progress, Report

#: After how long, and how often, it is said that the factory still works (s).
_FIRST, _EVERY = 2.0, 2.0


def ask(factory: DataFactory, allowed: Allowed, report: Report) -> Any:
    """What the data factory returns.

    Args:
        factory: Of the recipe.
        allowed: Factories that may be called.
        report: Receives progress, as long as the factory works.

    Raises:
        InputError: It can't be called, or failed.
    """
    done, started = threading.Event(), time.monotonic()

    def tell() -> None:
        wait = _FIRST
        while not done.wait(wait):
            passed = time.monotonic() - started
            report(Progress(0, 1, f"{factory.factory} prepares the data, {passed:.0f} s so far"))
            wait = _EVERY

    teller = threading.Thread(target=tell, name="hone-data-factory", daemon=True)
    teller.start()
    try:
        return allowed.call(factory.factory, factory.args, "data.factory")
    finally:
        done.set()
        teller.join()
