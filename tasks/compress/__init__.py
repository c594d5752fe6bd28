"""Passes: one file per kind, with the function `apply` of the protocol `CompressionPass`.

`tasks/steps.py` finds it by the kind of the pass; a pass of your own is called by `imported.py`.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

from ...ray_workers.workspace import Result, Workspace
from ...recipe.strict import IMPORT


class CompressionPass(Protocol):
    """What the file of a pass contains."""

    def apply(self, work: Workspace[Any]) -> Result:
        """Compress a model: a step.

        A pass on the graph reads the input `graph` (and may read `calibration`) and writes the
        output `graph`; `work.spec` is a `GraphPassSpec`. A pass on the torch module reads the
        input `module` and writes the output `module`; `work.spec` is a `ModulePassSpec`.

        Args:
            work: Its spec, its inputs, and where to write.

        Returns:
            Metrics and parameters for MLflow, facts for later steps, notes for the user.

        Raises:
            StepFailed: The pass can't be applied to this model; with the layer or operator.
        """


def compression_pass(kind: str) -> CompressionPass:
    """The pass of a kind that Hone includes."""
    module = "imported" if kind == IMPORT else kind.replace("-", "_")
    return cast(CompressionPass, importlib.import_module(f".{module}", __name__))
