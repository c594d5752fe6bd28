"""A candidate in the runtime that would serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...ray_workers.runtime_process import RuntimeProcess, interpreter_for
from ...ray_workers.workspace import Workspace
from ..specs.base import ThroughRuntime


@contextmanager
def opened(work: Workspace[Any]) -> Iterator[RuntimeProcess]:
    """The candidate of a step, loaded, with a thread for each of the step's cores."""
    spec: ThroughRuntime = work.spec
    options = work.loader_options(max(1, int(work.cpus)), spec.options)
    python = interpreter_for(spec.environment)
    with RuntimeProcess(spec.loader, work.inputs["model"], options, python=python) as runtime:
        runtime.wait_loaded()
        yield runtime
