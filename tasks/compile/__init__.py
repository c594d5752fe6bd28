"""Targets: a file each, named after its kind, with three functions.

- `availability(target)`: None if it runs here, else an `Unavailable` with the reason.
- `compile_graph(work)`: a step; reads the input `graph`, or where the target's spec takes modules
  `module`, `calibration` and the passes on the graph; writes the output `model`.
- `load(folder, options)`: a runner, a function from inputs by name to the main output, which
  validation, the benchmark and the registered model share. Imports only the runtime and numpy.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from ...ray_workers.workspace import Result, Workspace
from ...recipe.strict import Strict


class Unavailable(Strict):
    """Why a target does not run here.

    Attributes:
        reason: What is missing.
        do: What makes it available, a command where there is one.
        installable: Whether installing something helps; else the hardware lacks it.
    """

    reason: str
    do: str
    installable: bool


class TargetFunctions(Protocol):
    """What a target's file holds."""

    def availability(self, target: Any) -> Unavailable | None: ...
    def compile_graph(self, work: Workspace) -> Result: ...


def target_functions(kind: str) -> TargetFunctions:
    """The functions of a target of the recipe, by its kind."""
    return cast(TargetFunctions, importlib.import_module(f".{kind.replace('-', '_')}", __name__))
