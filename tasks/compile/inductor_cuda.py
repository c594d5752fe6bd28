"""inductor-cuda: AOTInductor on an NVIDIA GPU, with CUDA graphs. Never run on a GPU yet."""

from __future__ import annotations

from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import InductorCuda
from ...runtimes.inductor_runtime import InductorSettings
from ...runtimes.inductor_runtime import load as load
from ..specs.compile import CompileSpec
from ._cuda import unavailable_cuda
from ._inductor import compile_package, unavailable_compiler


def availability(_target: Any) -> Any:
    """None if there is a GPU that torch sees, and a C++ compiler."""
    return unavailable_cuda("torch") or unavailable_compiler()


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Inputs: `module`, `calibration`. Output: `model`.

    Raises:
        StepFailed: The module can't be exported or compiled; with the place.
    """
    target = work.spec.target
    assert isinstance(target, InductorCuda)  # noqa: S101 (narrows a type)
    settings = InductorSettings("cuda", cuda_graphs=target.cuda_graphs)
    return compile_package(work, target, {}, settings)
