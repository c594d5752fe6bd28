"""AOTInductor, for both devices."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import InductorCpu, InductorCuda
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.inductor_runtime import NAME, PACKAGE, InductorSettings
from ..specs.compile import CompileSpec


def unavailable_compiler() -> Any:
    """None if there is a C++ compiler."""
    from . import Unavailable

    if any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        return None
    return Unavailable(
        reason="there is no C++ compiler, which Inductor needs",
        do="apt-get install g++",
        installable=True,
    )


def compile_package(
    work: Workspace[CompileSpec],
    target: InductorCpu | InductorCuda,
    can: dict[str, str],
    settings: InductorSettings,
) -> Result:
    """Export, quantize if the variant does, and compile into a package.

    Args:
        work: Inputs: `module`, `calibration`. Output: `model`.
        target: The target.
        can: How the target implements each quantization scheme that it supports.
        settings: How the package is opened.
    """
    import torch

    from ...ray_workers.torch_private import make_package
    from ...recipe.errors import HoneError, StepFailed
    from ...recipe.library_messages import telling
    from .program import Program, quantized_pt2e

    program = Program(work)
    step = program.quantization(target.kind, can)
    model = None
    if step is not None:
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(
            x86.get_default_x86_inductor_quantization_config()
        )
        model = quantized_pt2e(program, quantizer, step)
    elif target.precision != "fp32" or settings.device != "cpu":
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = dtypes[target.precision]
        inner = program.model.to(settings.device, dtype)
        program.model = _cast(inner, dtype, settings.device).eval()
    try:
        exported = program.exported(dynamic=True, model=model)
        folder = work.output("model", target.kind)
        with torch.no_grad():
            make_package(
                exported,
                folder / PACKAGE,
                # Freezing gives an int8 graph wrong outputs (torch 2.13: cosine 0.98).
                {"freezing": step is None, "max_autotune": target.max_autotune},
            )
    except HoneError:
        raise
    except Exception as error:
        raise StepFailed(
            f"Inductor can't compile the model: {telling(error)}", where=target.kind
        ) from error
    inputs = tuple(program.inputs)
    CompiledArtifact(
        runtime=NAME, inputs=inputs, settings=asdict(settings), outputs=program.outputs
    ).write(folder)
    return Result(params={"compile/precision": target.precision, "compile/int8": step is not None})


def _cast(inner: Any, dtype: Any, device: str) -> Any:
    """A model that casts floating-point inputs to its type and device, and outputs to fp32."""
    import torch

    class Cast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *arguments: torch.Tensor) -> Any:
            moved = [
                a.to(device, dtype) if a.is_floating_point() else a.to(device) for a in arguments
            ]
            out = self.inner(*moved)
            return tuple(map(_float, out)) if isinstance(out, tuple) else _float(out)

    def _float(value: torch.Tensor) -> torch.Tensor:
        return value.float() if value.is_floating_point() else value

    return Cast()
