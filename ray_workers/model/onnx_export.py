"""A traced module as an ONNX graph, by `torch.onnx.export`."""

from __future__ import annotations

from typing import Any

import torch

from ...recipe.errors import StepFailed
from ..torch_private import oblivious_sizes, recurrent_operators
from .axes import BATCH
from .export_errors import as_export_error, complex_error
from .onnx_files import OUTPUT, name_outputs
from .tracing import Traced, quiet


def to_onnx(model: torch.nn.Module, traced: Traced) -> Any:
    """The ONNX graph of a traced module; its main output is `output`.

    Raises:
        StepFailed: With the operator that has no ONNX form.
    """
    names = [OUTPUT if n == traced.main else f"{OUTPUT}_{i}" for i, n in enumerate(traced.outputs)]
    _free_views(traced.program)
    try:
        with quiet(), recurrent_operators(model), oblivious_sizes():
            program = torch.onnx.export(
                traced.program,
                input_names=list(traced.inputs),
                output_names=names,
                verbose=False,
            )
    except Exception as error:
        if traced.not_real is not None:
            raise complex_error(traced.not_real) from error
        raise as_export_error(error, traced.program) from error
    if program is None:
        raise StepFailed("the exporter returned no program", where="export")
    graph = program.model_proto
    for item in graph.graph.input:
        for axis, name in traced.axes.get(item.name, {}).items():
            item.type.tensor_type.shape.dim[axis].dim_param = name
    for item in graph.graph.output:  # the batch; the others follow from the inputs
        shape = item.type.tensor_type.shape
        if shape.dim and shape.dim[0].dim_param:
            shape.dim[0].dim_param = BATCH
    del graph.graph.value_info[:]  # they name axes as torch does
    name_outputs(graph, dict(zip(names, traced.outputs, strict=True)))
    return graph


def _free_views(program: Any) -> None:
    """Copy what is permuted before it is reshaped, in place; the copies are gone from the graph.

    Whether a permuted tensor is viewed or copied is decided by how it lies in memory. The exporter
    replaces operators whose results lie otherwise then (attention with a mask: T5), and fails:
    "Cannot view a tensor with shape ...".
    """
    ops = torch.ops.aten
    whole = {"memory_format": torch.contiguous_format}
    for module in program.graph_module.modules():
        for node in list(module.graph.nodes) if isinstance(module, torch.fx.GraphModule) else ():
            if node.target is ops.contiguous.default:
                node.target, node.kwargs = ops.clone.default, whole
            elif node.target in (ops.view.default, ops.reshape.default) and (
                node.args[0].target in (ops.transpose.int, ops.permute.default)
            ):
                with module.graph.inserting_before(node):
                    copied = module.graph.call_function(ops.clone.default, node.args[:1], whole)
                copied.meta = dict(node.args[0].meta)
                node.update_arg(0, copied)
