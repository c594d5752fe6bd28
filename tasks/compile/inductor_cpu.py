"""inductor-cpu: torch.compile's compiler ahead of time, as a package with a shared library.

https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. The library holds for the
processor that it was compiled on, and needs torch to run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._inductor import compile_package, load_package, unavailable_compiler

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
    options: dict[str, Any] = {"max_autotune": target.max_autotune}
    return compile_package(work, target.kind, target.precision, options, CAN, device="cpu")


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner.

    Args:
        folder: The artifact.
        options: `threads`: threads of torch.
    """
    return load_package(folder, options, device="cpu")
