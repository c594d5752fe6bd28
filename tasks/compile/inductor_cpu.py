"""inductor-cpu: torch.compile's compiler ahead of time, as a package with a shared library.

https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. The library runs only on the
kind of processor that it was compiled on, and needs torch.
"""

from __future__ import annotations

from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import InductorCpu
from ...runtimes.inductor_runtime import InductorSettings
from ...runtimes.inductor_runtime import load as load
from ..specs.compile import CompileSpec
from ._inductor import compile_package, unavailable_compiler

CAN = {"static-int8": "X86InductorQuantizer, by torchao (PT2E)"}


def availability(_target: Any) -> Any:
    """None if there is a C++ compiler."""
    return unavailable_compiler()


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Inputs: `module`, `calibration`. Output: `model`.

    Raises:
        StepFailed: The module can't be exported or compiled; with the place.
    """
    target = work.spec.target
    assert isinstance(target, InductorCpu)  # noqa: S101 (narrows a type)
    return compile_package(work, target, CAN, InductorSettings("cpu", threads=target.threads))
