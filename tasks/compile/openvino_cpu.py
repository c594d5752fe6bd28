"""openvino-cpu: OpenVINO's CPU plugin. The artifact is its intermediate representation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.processor import processor
from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoCpu
from . import Unavailable
from ._openvino import SETTINGS, convert, not_installed, runner

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


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph; with the operator that it names.
    """
    return convert(work, OpenVinoCpu.model_validate(work.spec["target"]))


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner.

    Args:
        folder: The artifact.
        options: `threads`: threads of inference.
    """
    target = OpenVinoCpu.model_validate_json((folder / SETTINGS).read_text())
    return runner(folder, options, "CPU", target)
