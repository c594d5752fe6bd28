"""inductor-cpu: torch.compile's compiler ahead of time, as a package with a shared library.

https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. The library holds for the
processor that it was compiled on, and needs torch to run.
"""

from __future__ import annotations

from typing import Any

from ...runtimes.inductor_runtime import InductorSettings
from ...runtimes.inductor_runtime import load as load
from ._inductor import compile_package, unavailable_compiler

CAN = {"static-int8": "X86InductorQuantizer, by torchao (PT2E)"}


def availability(_target: Any) -> Any:
    """None if there is a C++ compiler."""
    return unavailable_compiler()


def compile_graph(work: Any) -> Any:
    """Spec: target, model, passes. Inputs: `module`, `calibration`. Output: `model`.

    Raises:
        StepFailed: The module can't be exported or compiled; with the place that is named.
    """
    from ...recipe.targets import InductorCpu

    target = InductorCpu.model_validate(work.spec["target"])
    return compile_package(work, target, CAN, InductorSettings("cpu", threads=target.threads))
