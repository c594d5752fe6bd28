"""Functions for a target whose packages conflict with Hone's, so that it needs an environment.

Availability is checked where nothing heavy is loaded, so torch is not imported here.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from typing import Any

from ....ray_workers.workspace import Workspace
from ....runtimes.isolated.environment import environment
from ...specs.compile import CompileSpec
from .. import Unavailable


def of_its_own(
    kind: str, can: dict[str, str]
) -> tuple[Callable[[Any], Unavailable | None], Callable[[Any], Any]]:
    """`availability` and `compile_graph` of a target whose builder is `KIND_build.py` beside it.

    Args:
        kind: Of the target.
        can: How the target implements each quantization scheme that it supports.
    """

    def availability(target: Any) -> Unavailable | None:
        """None if its environment exists or can be created."""
        return _unavailable(target.environment)

    def compile_graph(work: Workspace[CompileSpec]) -> Any:
        """Spec: target, model, passes, batch_sizes. Inputs: `module`, `calibration`. Output:
        `model`.

        Raises:
            StepFailed: The target can't compile the model; with its message.
        """
        from .build import build_in_environment

        return build_in_environment(work, kind, can)

    return availability, compile_graph


def _unavailable(name: str) -> Unavailable | None:
    if environment(name).is_made:
        return None
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return Unavailable(
            reason=f"its packages are for Linux, not {sys.platform} {platform.machine()}",
            do="run on Linux",
            installable=False,
        )
    if importlib.util.find_spec("ensurepip") is None:
        return Unavailable(
            reason="Python's venv is not complete here (no ensurepip)",
            do="apt-get install python3-venv",
            installable=True,
        )
    return None
