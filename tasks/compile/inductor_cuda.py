"""inductor-cuda: AOTInductor on an NVIDIA GPU, with CUDA graphs. Never run on a GPU yet."""

from __future__ import annotations

from typing import Any

from ...runtimes.inductor_runtime import InductorSettings
from ...runtimes.inductor_runtime import load as load
from ._cuda import unavailable_cuda
from ._inductor import compile_package, unavailable_compiler


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
    settings = InductorSettings("cuda", cuda_graphs=target.cuda_graphs)
    return compile_package(work, target, {}, settings)
