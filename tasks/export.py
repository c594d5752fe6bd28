"""Export: the trained module as an ONNX graph whose batch, and what else varies, stays free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..ray_workers.data.calling import (
    Arrays,
    called,
    chosen_output,
    main_output_name,
    named_outputs,
    tensors,
)
from ..ray_workers.model.axes import Varying, read_axes, read_batches, set_axes
from ..ray_workers.model.module import load_module
from ..ray_workers.model.onnx_export import to_onnx
from ..ray_workers.model.onnx_files import (
    OUTPUT,
    load_inputs,
    name_layers,
    set_outputs,
    write_graph,
)
from ..ray_workers.model.onnx_model import OnnxGraph
from ..ray_workers.model.shared_weights import share_weights
from ..ray_workers.model.tracing import Traced, example_of, frozen, trace
from ..ray_workers.store.file_names import GRAPH
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import StepFailed
from ..recipe.library_messages import telling
from .specs.export import ExportSpec

#: Largest difference of the graph's outputs from the model's, as a share of the largest output. A
#: wrong graph is farther; sums in another order are much closer.
_TOLERANCE = 1e-2


def export(work: Workspace[ExportSpec]) -> Result:
    """Export a module. Inputs: `weights`, `inputs` (real ones). Output: `graph`.

    Uses `torch.export` and `torch.onnx.export`
    (https://docs.pytorch.org/docs/stable/onnx_export.html), and runs the graph at other sizes than
    the one that it was exported with.

    Raises:
        StepFailed: With the operator or line that can't be exported, or that fixes an axis.
    """
    model = load_module(work.spec.model, work.allowed, work.inputs["weights"])
    folder = work.inputs["inputs"]
    stacked = load_inputs(folder, 4)
    varying = read_axes(folder)
    if isinstance(model, OnnxGraph):
        graph, main = model.exported(load_inputs(folder, 2), varying)
        others = [output.name for output in graph.graph.output if output.name != OUTPUT]
        return _kept(work, graph, [main, *others], varying)
    batches = [*read_batches(folder), stacked]
    traced = trace(model, example_of(batches), varying)
    graph = to_onnx(model, traced)
    result = _kept(work, graph, _order(traced), varying)
    path = work.outputs["graph"][0] / GRAPH
    result.notes.extend(_check_sizes(model, path, _sizes(batches, varying), varying))
    return result


def _order(traced: Traced) -> list[str]:
    return [traced.main, *(name for name in traced.outputs if name != traced.main)]


def _kept(
    work: Workspace[ExportSpec], graph: Any, outputs: list[str], varying: tuple[Varying, ...]
) -> Result:
    name_layers(graph)
    share_weights(graph)
    set_outputs(graph, outputs)
    set_axes(graph, varying)
    write_graph(graph, work.output("graph", "onnx"))
    opset = next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    params = {"graph/nodes": len(graph.graph.node), "graph/opset": opset}
    if len(outputs) > 1:
        params["graph/outputs"] = ", ".join(outputs)
    if varying:
        params["graph/varying_axes"] = ", ".join(map(str, varying))
    return Result(params=params)


def _sizes(batches: list[Arrays], varying: tuple[Varying, ...]) -> list[Arrays]:
    """Batches of other sizes than the one that was traced: of 1 and of more, and half as long."""
    stacked = batches[-1]
    own = batches[:-1][:3]
    found = [{n: v[:1] for n, v in stacked.items()}, _rows(stacked, 5), *own]
    for axis in varying:
        size = stacked[axis.input].shape[axis.axis]
        if axis.least == axis.most and size > 1:  # declared only: nothing else was seen
            found.append(_halved(stacked, [a for a in varying if a.name == axis.name]))
            break
    return found


def _rows(batch: Arrays, count: int) -> Arrays:
    rows = np.arange(count) % len(next(iter(batch.values())))
    return {name: np.ascontiguousarray(value[rows]) for name, value in batch.items()}


def _halved(batch: Arrays, axes: list[Varying]) -> Arrays:
    found = dict(batch)
    for axis in axes:
        half = (batch[axis.input].shape[axis.axis] + 1) // 2
        cut = (slice(None),) * axis.axis + (slice(half),)
        found[axis.input] = np.ascontiguousarray(found[axis.input][cut])
    return found


def _check_sizes(
    model: torch.nn.Module, path: Path, batches: list[Arrays], varying: tuple[Varying, ...]
) -> list[str]:
    """Refuse a graph that computes something else than the model at another size.

    Returns:
        Notes, where a comparison says nothing.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # another runtime may take it; this one's target says why not
        return []
    takes = {item.name for item in session.get_inputs()}
    for batch in batches:
        expected = _main(model, batch)
        if expected is None:
            continue
        count = len(next(iter(batch.values())))
        try:
            (found,) = session.run([OUTPUT], {n: v for n, v in batch.items() if n in takes})
        except Exception as error:
            raise _wrong(f"fails: {telling(error)}", batch, varying) from error
        if found.shape != expected.shape:
            raise (
                frozen("the batch axis", found.shape[0])
                if len(found) != count
                else _wrong(
                    f"gives shape {found.shape} instead of {expected.shape}", batch, varying
                )
            )
        if not np.issubdtype(expected.dtype, np.floating):
            continue
        scale = max(float(np.abs(expected).max(initial=0)), 1e-6)
        apart = float(np.abs(expected - found).max(initial=0)) / scale
        if apart > _TOLERANCE:
            again = _main(model, batch)
            if again is None or not np.allclose(again, expected, atol=_TOLERANCE * scale):
                return ["the model gives other outputs for the same inputs each time, so the "
                        "exported graph can't be compared with it"]  # fmt: skip
            raise _wrong(f"is {apart:.1%} of the largest output away", batch, varying)
    return []


def _main(model: torch.nn.Module, batch: Arrays) -> Any:
    """The model's main output; None if the model can't take the batch or gives no numbers."""
    try:
        with torch.inference_mode():
            named = named_outputs(called(model, tensors(batch)))
    except Exception:
        return None
    value = named[main_output_name(list(named), chosen_output(model))]
    value = value.float() if value.is_floating_point() else value
    found = value.numpy()
    return found if np.isfinite(found).all() else None


def _wrong(how: str, batch: Arrays, varying: tuple[Varying, ...]) -> StepFailed:
    count = len(next(iter(batch.values())))
    shapes = ", ".join(f"{name} {value.shape}" for name, value in batch.items())
    free = " and ".join(["the batch", *map(str, varying)])
    return StepFailed(
        f"the exported graph {how}, for {count} sample{'s' * (count > 1)} ({shapes}), where the "
        "model itself can compute them",
        where="export",
        do=f"look for code of the model that depends on {free} by other means than tensor "
        "operations (int(), len(), numpy, lists of tensors)",
    )
