"""Targets: one file per kind, with `_` for `-`, that contains the functions of `TargetRuntime`."""

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
        do: How to make it available, as a command if possible.
        installable: Whether installing something helps; else the hardware lacks it.
    """

    reason: str
    do: str
    installable: bool


class TargetRuntime(Protocol):
    """The functions in a target's file: is it available, compile, and open the artifact."""

    def availability(self, target: Any) -> Unavailable | None:
        """None if the target runs on this machine, else what is missing.

        Args:
            target: As in the recipe, a member of `AnyTarget`.
        """

    def compile_graph(self, work: Workspace[CompileSpec]) -> Result:
        """A step: compile a variant's model for the target.

        Spec: `target`; `batch_sizes` if it compiles a program for each. If the target's class has
        `takes = "graph"`, the input is `graph`, the variant's graph. If it has `"module"`, the spec
        also has `model` and the variant's `passes` on the graph, which the target applies with its
        own tools, and the inputs are `module` and `calibration`. Output: `model`, with a
        `CompiledArtifact` in it.

        Raises:
            StepFailed: The target can't compile the model; with the operator or place.
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
