"""inductor-cuda: AOTInductor on an NVIDIA GPU, with CUDA graphs. Never run on a GPU yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._cuda import unavailable_cuda
from ._inductor import compile_package, load_package, unavailable_compiler


def availability(_target: Any) -> Any:
    """None if there is a GPU that torch sees, and a C++ compiler."""
    return unavailable_cuda("torch") or unavailable_compiler()


def compile_graph(work: Any) -> Any:
    """Spec: target, model, passes. Inputs: `module`, `calibration`. Output: `model`.

    Raises:
        StepFailed: The module can't be exported or compiled; with the place that is named.
    """
    from ...recipe.targets import InductorCuda

    target = InductorCuda.model_validate(work.spec["target"])
    options: dict[str, Any] = {"max_autotune": target.max_autotune}
    return compile_package(work, target.kind, target.precision, options, {}, device="cuda")


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner; inputs and outputs are copied from and to the host, as a server's would be.

    Args:
        folder: The artifact.
        options: `threads`.
    """
    return load_package(folder, options, device="cuda")
