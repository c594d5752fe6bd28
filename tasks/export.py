"""Export: the trained module as an ONNX graph with a dynamic batch axis."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch

from ..ray_workers.data.calling import INPUT, main_output, tensors
from ..ray_workers.model.export_errors import as_export_error
from ..ray_workers.model.module import dynamic_batch, load_module
from ..ray_workers.model.onnx_files import OUTPUT, load_inputs, name_layers, write_graph
from ..ray_workers.model.onnx_model import OnnxGraph
from ..ray_workers.torch_private import tree_leaves
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import StepFailed
from .specs.export import ExportSpec


def export(work: Workspace[ExportSpec]) -> Result:
    """Export a module. Inputs: `weights`, `inputs` (real ones). Output: `graph`.

    Uses `torch.onnx.export(dynamo=True)`
    (https://docs.pytorch.org/docs/stable/onnx_export.html).

    Raises:
        StepFailed: With the operator or line that can't be exported.
    """
    model = load_module(work.spec.model, work.allowed, work.inputs["weights"])
    example = load_inputs(work.inputs["inputs"], 2)
    if isinstance(model, OnnxGraph):
        graph, _ = model.exported(example)
        return _kept(work, graph)
    inputs = tensors(example)
    names = _outputs(model, inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                () if isinstance(inputs, dict) else (inputs,),
                kwargs=inputs if isinstance(inputs, dict) else None,
                dynamo=True,
                input_names=list(example) if isinstance(inputs, dict) else [INPUT],
                output_names=names,
                dynamic_shapes=dynamic_batch(model, inputs, torch.export.Dim("batch")),
                verbose=False,
            )
    except Exception as error:
        raise as_export_error(error) from error
    if program is None:
        raise StepFailed("the exporter returned no program", where="export")
    return _kept(work, program.model_proto)


def _kept(work: Workspace[ExportSpec], graph: Any) -> Result:
    name_layers(graph)
    write_graph(graph, work.output("graph", "onnx"))
    opset = next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    return Result(params={"graph/nodes": len(graph.graph.node), "graph/opset": opset})


def _outputs(model: torch.nn.Module, inputs: Any) -> list[str]:
    """Names for the model's outputs, of which the main one is called `output`."""
    with torch.no_grad():
        outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    main = main_output(outputs)
    position = next(i for i, leaf in enumerate(leaves) if leaf is main)
    return [OUTPUT if i == position else f"output_{i}" for i in range(len(leaves))]
