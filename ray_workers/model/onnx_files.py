"""The exported graph (ONNX): files, names of layers, and real inputs for it."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file

from ...recipe.errors import StepFailed
from ...recipe.library_messages import telling
from ...recipe.syntax import syntax_tree
from ...runtimes.predict import names_in_graph
from ..store.file_names import GRAPH, SAMPLES_FILE, WEIGHTS_BESIDE

OUTPUT = "output"
_SCOPES = "pkg.torch.onnx.name_scopes"
_LAYER = "hone.layer"
#: Property of a graph: the floating-point format that it should be computed in.
PRECISION = "hone.precision"
#: Property of a graph: the model's own names of its outputs, the main one first.
_OUTPUTS = "hone.outputs"
#: Property of a graph: the axes that vary besides the batch, with the sizes that were seen.
AXES = "hone.axes"
#: Above this many bytes the weights are stored beside the graph: protobuf's limit is 2 GB.
_BESIDE_ABOVE = 1_500_000_000

Arrays = dict[str, np.ndarray[Any, Any]]


def read_graph(folder: Path) -> Any:
    """The ONNX model of a folder, weights included.

    Raises:
        StepFailed: It can't be read.
    """
    try:
        return onnx.load(str(folder / GRAPH))
    except Exception as error:
        raise StepFailed(f"the graph can't be read: {telling(error)}", where=GRAPH) from error


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph, and all graphs within its nodes: the bodies of If, Loop and Scan."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from graphs_of(inner)


def is_large(model: Any) -> bool:
    """Whether an ONNX model's weights must be stored in a file beside it.

    Computed from the shapes, because protobuf can't even report the size of a message above 2 GB.
    """
    sizes = (
        math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        for t in model.graph.initializer
    )
    return bool(sum(sizes) > _BESIDE_ABOVE)


def rewrite_graph(folder: Path, level: str, scratch: Path, who: str) -> Any:
    """The graph of a folder as ONNX Runtime rewrites it.

    Args:
        folder: The graph's.
        level: How far: `disabled`, `basic`, or `extended`, which all hold on any machine.
        scratch: An empty folder.
        who: The caller, for errors.

    Raises:
        StepFailed: ONNX Runtime refuses the graph.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
    }[level]
    rewritten = scratch / "rewritten.onnx"
    options.optimized_model_filepath = str(rewritten)
    if (folder / WEIGHTS_BESIDE).exists():
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{prefix}file_name", "rewritten.data")
        options.add_session_config_entry(f"{prefix}min_size_in_bytes", "1024")
    try:
        onnxruntime.InferenceSession(
            str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        from .graph_errors import told  # it reads layers, which this module knows

        said = told(error, onnx.load(str(folder / GRAPH), load_external_data=False))
        raise StepFailed(f"ONNX Runtime refuses the graph: {said}", where=who) from error
    return onnx.load(str(rewritten)) if rewritten.exists() else read_graph(folder)


def write_graph(model: Any, folder: Path) -> None:
    """Write an ONNX model; a large one with its weights in a file beside it."""
    large = is_large(model)
    onnx.save_model(
        model,
        str(folder / GRAPH),
        save_as_external_data=large,
        location=WEIGHTS_BESIDE if large else None,
    )


def set_outputs(model: Any, names: Sequence[str]) -> None:
    """Keep the model's own names of its outputs, the main one, `output`, first."""
    set_property(model, _OUTPUTS, json.dumps(list(names)))


def outputs_of(model: Any) -> tuple[str, ...]:
    """What `set_outputs` kept; empty if the graph has one output only."""
    said = property_of(model, _OUTPUTS)
    names = tuple(json.loads(said)) if said else ()
    return names if len(names) > 1 else ()


def name_outputs(model: Any, names: Mapping[str, str]) -> None:
    """Give the outputs of a graph besides the main one the model's own names, or what
    `names_in_graph` makes of them.

    Args:
        model: Its main output is called `output`.
        names: From the name in the graph to the model's.
    """
    others = [old for old in names if old != OUTPUT]
    inputs = {item.name for item in model.graph.input}
    wanted = names_in_graph([OUTPUT, *(names[old] for old in others)], inputs)
    for old, new in zip(others, wanted[1:], strict=True):
        rename_value(model.graph, old, new)


def rename_value(graph: Any, old: str, new: str) -> None:
    """Rename a value; another value of that name is renamed first."""
    if old == new:
        return
    names = {name for inner in graphs_of(graph) for node in inner.node for name in node.output}
    names |= {item.name for item in (*graph.input, *graph.initializer)}
    if new in names:
        rename_value(graph, new, f"{new}_inner")
    for inner in graphs_of(graph):
        for node in inner.node:
            for values in (node.input, node.output):
                for position, name in enumerate(values):
                    if name == old:
                        values[position] = new
        for item in (*inner.input, *inner.output, *inner.initializer):
            if item.name == old:
                item.name = new


def name_layers(model: Any) -> None:
    """Keep only each node's layer of the exporter's metadata: the rest contains local paths."""
    for node in model.graph.node:
        layer = _exported_layer(node)
        del node.metadata_props[:]
        if layer:
            entry = node.metadata_props.add()
            entry.key, entry.value = _LAYER, layer
        node.doc_string = ""


def name_nodes(model: Any) -> None:
    """Give each node a name of its own, also those in bodies."""
    seen: set[str] = set()
    for index, node in enumerate(node for graph in graphs_of(model.graph) for node in graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def restore_layers(model: Any, source: Any) -> None:
    """Restore what a tool dropped: nodes' layers by name, then by output; outputs and axes."""
    by_name = {node.name: layer_of(node) for node in source.graph.node}
    by_output = {output: layer_of(node) for node in source.graph.node for output in node.output}
    for node in model.graph.node:
        if any(entry.key == _LAYER for entry in node.metadata_props):
            continue
        layer = by_name.get(node.name) or next(
            (by_output[output] for output in node.output if output in by_output), None
        )
        if layer and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            entry = node.metadata_props.add()
            entry.key, entry.value = _LAYER, layer

    kept = {entry.key for entry in model.metadata_props}
    for entry in source.metadata_props:
        if entry.key in (_OUTPUTS, AXES) and entry.key not in kept:
            set_property(model, entry.key, entry.value)


def set_property(model: Any, name: str, value: str) -> None:
    """Set a metadata property of the graph."""
    for entry in model.metadata_props:
        if entry.key == name:
            entry.value = value
            return
    entry = model.metadata_props.add()
    entry.key, entry.value = name, value


def property_of(model: Any, name: str) -> str | None:
    """A metadata property of the graph, if it is set."""
    return next((str(e.value) for e in model.metadata_props if e.key == name), None)


def layer_of(node: Any) -> str:
    """The torch module that a node came from, or the node's own name."""
    for entry in node.metadata_props:
        if entry.key == _LAYER:
            return str(entry.value)
    return str(node.name)


def _exported_layer(node: Any) -> str | None:
    """A node with weights belongs to the module that owns them, another to its innermost module.

    Where a batch norm was folded into a convolution the exporter's scope is the norm's, but the
    weight still has the convolution's name.
    """
    for name in node.input:
        if name.endswith(".weight"):
            return str(name).removesuffix(".weight")
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = [str(scope) for scope in ast.literal_eval(syntax_tree(entry.value, "eval"))]
            return next((scope for scope in reversed(scopes[:-1]) if scope), None)
    return None


def load_inputs(folder: Path, count: int | None = None) -> Arrays:
    """Real inputs by name, each `(N, ...)`; at most `count` of them."""
    return {name: value[:count] for name, value in load_file(str(folder / SAMPLES_FILE)).items()}


def batch_arrays(inputs: Arrays, size: int) -> list[Arrays]:
    """Consecutive batches of at most `size` samples."""
    count = len(next(iter(inputs.values())))
    return [
        {name: value[start : start + size] for name, value in inputs.items()}
        for start in range(0, count, size)
    ]
