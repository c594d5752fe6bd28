"""openvino-cpu: OpenVINO's CPU plugin. The artifact is its intermediate representation."""

from __future__ import annotations

from ...ray_workers.processor import processor
from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoCpu
from ...runtimes.openvino_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._openvino import convert, not_installed

_INSTRUCTIONS = {
    "bf16": {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "fphp"},
}


def availability(target: OpenVinoCpu) -> Unavailable | None:
    """None if OpenVINO is installed and the processor has the precision."""
    missing = not_installed()
    if missing is not None:
        return missing
    if target.precision != "fp32" and not (
        _INSTRUCTIONS[target.precision] & set(processor().features)
    ):
        return Unavailable(
            reason=f"this processor has no {target.precision} instructions",
            do=f"run on one with {' or '.join(sorted(_INSTRUCTIONS[target.precision]))}, or leave "
            "the target out",
            installable=False,
        )
    return None


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph; with the operator that it names.
    """
    assert isinstance(work.spec.target, OpenVinoCpu)  # noqa: S101 (narrows a type)
    return convert(work, work.spec.target, "CPU")
