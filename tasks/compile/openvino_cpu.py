"""openvino-cpu: OpenVINO's CPU plugin. The artifact is its intermediate representation."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.targets import OpenVinoCpu
from . import Unavailable

_FILE = "model.xml"
_SETTINGS = "settings.json"
_CPUINFO = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}


def availability(target: OpenVinoCpu) -> Unavailable | None:
    """None if OpenVINO is installed and the processor has the precision."""
    if importlib.util.find_spec("openvino") is None:
        return Unavailable(
            reason="openvino is not installed",
            do="pip install 'prefect-hone[openvino]'",
            installable=True,
        )
    if target.precision == "bf16" and not _has_bf16():
        return Unavailable(
            reason="this processor has no bf16 instructions",
            do="run on one with avx512_bf16 or amx_bf16, or leave the target out",
            installable=False,
        )
    return None


def _has_bf16() -> bool:
    if not _CPUINFO.exists():
        return False
    for line in _CPUINFO.read_text().splitlines():
        if line.lower().startswith(("flags", "features")):
            return bool(_BF16 & set(line.split()))
    return False


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph; with the operator that it names.
    """
    import openvino

    from ..graph import GRAPH

    target = OpenVinoCpu.model_validate(work.spec["target"])
    folder = work.output("model", "openvino")
    try:
        model = openvino.Core().read_model(str(work.inputs["graph"] / GRAPH))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith("--") or "not supported" in line]
        raise StepFailed(
            f"OpenVINO can't convert the graph: {(telling or lines or [''])[-1].lstrip('- ')}",
            where="openvino-cpu",
        ) from error
    openvino.save_model(model, str(folder / _FILE), compress_to_fp16=False)
    (folder / _SETTINGS).write_text(target.model_dump_json())
    return Result(
        params={
            "compile/nodes": len(model.get_ops()),
            "compile/precision": target.precision,
        }
    )


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner.

    Args:
        folder: The artifact.
        options: `threads`: threads of inference.
    """
    import openvino

    target = OpenVinoCpu.model_validate_json((folder / _SETTINGS).read_text())
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[target.precision],
    }
    if options.get("threads"):
        settings["INFERENCE_NUM_THREADS"] = int(options["threads"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(folder / _FILE)), "CPU", settings)
    request = compiled.create_infer_request()
    output = compiled.output("output")

    def run(inputs: dict[str, Any]) -> Any:
        # The request's buffer is used again by the next call, so the caller gets its own copy.
        return request.infer(inputs, share_inputs=True)[output].copy()

    return run
