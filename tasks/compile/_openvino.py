"""OpenVINO on any of its devices."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.targets import OpenVinoCpu
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.openvino_runtime import (
    DESCRIPTION,
    NAME,
    PACKED,
    PRECISIONS,
    OpenVinoSettings,
    core,
)
from ..specs.compile import CompileSpec
from . import Unavailable


def not_installed() -> Unavailable | None:
    """None if OpenVINO is installed."""
    if importlib.util.find_spec("openvino") is None:
        return Unavailable(
            reason="openvino is not installed",
            do="pip install 'prefect-hone[openvino]'",
            installable=True,
        )
    return None


def no_device(device: str) -> Unavailable | None:
    """None if OpenVINO is installed and sees the device."""
    missing = not_installed()
    if missing is not None:
        return missing
    if not any(found.startswith(device) for found in core().available_devices):
        return Unavailable(
            reason=f"OpenVINO sees no {device} on this machine",
            do=f"run on a machine with an Intel {device} and its driver",
            installable=False,
        )
    return None


def convert(work: Workspace[CompileSpec], target: Any, device: str) -> Result:
    """Write the intermediate representation and its settings.

    Raises:
        StepFailed: OpenVINO can't convert the graph; with the operator that it names.
    """
    import openvino

    from ...ray_workers.model.graph_errors import told
    from ...ray_workers.model.onnx_files import (
        PRECISION,
        outputs_of,
        property_of,
        read_graph,
        write_graph,
    )
    from ...ray_workers.model.openvino_form import for_openvino
    from ...ray_workers.store.file_names import GRAPH

    source = read_graph(work.inputs["graph"])
    wish = property_of(source, PRECISION)
    if wish == "fp8":
        raise StepFailed("OpenVINO does not support fp8", where=target.kind, do="use a GPU target")
    precision = wish if wish in PRECISIONS and target.precision == "fp32" else target.precision
    folder = work.output("model", "openvino")
    outputs, file = outputs_of(source), work.inputs["graph"] / GRAPH
    if for_openvino(source):
        write_graph(source, work.scratch)
        file = work.scratch / GRAPH
    try:
        model = core().read_model(str(file))
    except Exception as error:
        said = told(error, source, lambda graph: _shapes(graph, work.scratch))
        raise StepFailed(
            f"OpenVINO can't convert the graph: {said}",
            where=target.kind,
            do="replace the operator, or leave this target out",
        ) from error
    plain = folder / DESCRIPTION
    openvino.save_model(model, str(plain), compress_to_fp16=False)
    (folder / PACKED).write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    sizes = work.spec.batch_sizes
    threads = target.threads if isinstance(target, OpenVinoCpu) else None
    artifact = CompiledArtifact(
        runtime=NAME,
        batch_sizes=None if sizes is None else tuple(sorted({1, *sizes})),
        settings=asdict(OpenVinoSettings(device, precision, target.streams, threads)),
        outputs=outputs,
    )
    artifact.write(folder)
    return Result(
        params={
            "compile/nodes": len(model.get_ops()),
            "compile/precision": precision,
            "compile/batch_axis": artifact.batch_axis,
        }
    )


def _shapes(graph: Any, scratch: Path) -> dict[str, tuple[int | None, ...]]:
    """The shapes of a graph's outputs as OpenVINO derives them; None where a size is not fixed."""
    from ...ray_workers.model.onnx_files import write_graph
    from ...ray_workers.store.file_names import GRAPH

    write_graph(graph, scratch)
    model = core().read_model(str(scratch / GRAPH))
    found: dict[str, tuple[int | None, ...]] = {}
    for port in model.outputs:
        shape = port.get_partial_shape()
        if shape.rank.is_static:
            sizes = tuple(d.get_length() if d.is_static else None for d in shape)
            found |= dict.fromkeys(port.get_names(), sizes)
    return found
