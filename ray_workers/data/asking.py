"""Calls the data factory, which may take minutes: its progress is shown, and it is called once."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...recipe.factories import Allowed
from ...recipe.model import DataFactory
from ..events import Progress, Report
from ..workspace import Workspace
from .shared_data import FAST, Globals, content_of, data_in
from .shared_reading import share_reading
from .turns import Shared, once

#: After how long, and how often, it is said that the factory still works (s).
_FIRST, _EVERY = 2.0, 2.0


@dataclass(frozen=True)
class Asked:
    """What a data factory returned.

    Attributes:
        data: That.
        reference: To a copy for other processes; None: there is none.
        taken: Whether it is such a copy, so that the factory was not called.
    """

    data: Any
    reference: Any = None
    taken: bool = False


def data_of(work: Workspace[Any], factory: DataFactory) -> Any:
    """What the data factory returns to a step; as `ask`."""
    return asked_by(work, factory).data


def asked_by(work: Workspace[Any], factory: DataFactory) -> Asked:
    """As `data_of`, with a reference for the step's workers."""
    code = "" if work.code is None else work.code.sha256
    return ask(factory, work.allowed, work.report, work.shared, code)


def ask(
    factory: DataFactory,
    allowed: Allowed,
    report: Report,
    shared: Shared | None = None,
    code: str = "",
) -> Asked:
    """What the data factory returns, or returned to another step of the run.

    Args:
        factory: Of the recipe.
        allowed: Factories that may be called.
        report: Receives progress, as long as the factory works.
        shared: What other steps have; None: the factory is called.
        code: Digest of the code folder.

    Raises:
        InputError: It can't be called, or failed.
    """
    key = _key(factory, code)

    def make() -> tuple[Any, Callable[[], bytes | None]]:
        if shared is not None:
            teller.also = lambda: shared.renew(key)
        allowed.resolve(factory.factory, "data.factory")  # which imports the user's modules
        before, started = Globals(allowed), time.monotonic()
        data = allowed.call(factory.factory, factory.args, "data.factory")
        slow = time.monotonic() - started >= FAST
        return data, lambda: content_of(data) if slow and not before.changed() else None

    with _Teller(factory, report) as teller:
        asked = Asked(*once(shared, key, make, data_in))
    share_reading(asked.data, shared, key)
    return asked


def _key(factory: DataFactory, code: str) -> str:
    fields = json.dumps([factory.model_dump(mode="json"), code], sort_keys=True)
    return hashlib.sha256(fields.encode()).hexdigest()


class _Teller:
    """Says every few seconds that the factory still works."""

    def __init__(self, factory: DataFactory, report: Report) -> None:
        self._name, self._report = factory.factory, report
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="hone-data-factory", daemon=True)
        self.also: Callable[[], None] = lambda: None

    def __enter__(self) -> _Teller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _tell(self) -> None:
        started, wait = time.monotonic(), _FIRST
        while not self._done.wait(wait):
            passed = time.monotonic() - started
            self._report(Progress(0, 1, f"{self._name} prepares the data, {passed:.0f} s so far"))
            self.also()
            wait = _EVERY
