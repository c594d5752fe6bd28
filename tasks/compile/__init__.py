"""Targets: a file each, named after its kind with `_` for `-`, with what `TargetRuntime` says."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ...ray_workers.workspace import Result, Workspace
from ...recipe.strict import Strict
from ...runtimes.predict import LoadOptions
from ..specs.compile import CompileSpec

if TYPE_CHECKING:
    from ...runtimes.predict import Predict


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


class TargetRuntime(Protocol):
    """What a target's file holds: whether it runs here, how it compiles, how that is opened."""

    def availability(self, target: Any) -> Unavailable | None:
        """None if the target runs on this machine, else what is missing.

        Args:
            target: As the recipe asks for it, a member of `AnyTarget`.
        """

    def compile_graph(self, work: Workspace[CompileSpec]) -> Result:
        """A step: compile a variant's model for the target.

        Spec: `target`; `batch_sizes` if it compiles a program for each. Where the target's class
        says `takes = "graph"`, the input is `graph`, the variant's graph; where it says `"module"`,
        the spec also has `model` and `passes`, those on the graph, which the target does by its own
        tools, and the inputs are `module` and `calibration`. Output: `model`, with a
        `CompiledArtifact` in it.

        Raises:
            StepFailed: The target can't take the model; with the operator or place that it names.
        """

    def load(self, folder: Path, options: LoadOptions) -> Predict:
        """Open the output of `compile_graph`.

        It is the `load` of the target's runtime (`runtimes/NAME_runtime.py`): what is validated and
        timed is what MLflow serves.

        Args:
            folder: The artifact.
            options: `threads`; plain data.
        """


def target_functions(kind: str) -> TargetRuntime:
    """The functions of a target of the recipe, by its kind."""
    return cast(TargetRuntime, importlib.import_module(f".{kind.replace('-', '_')}", __name__))
