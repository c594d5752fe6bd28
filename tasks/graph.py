"""The exported graph (ONNX): files, names of layers, and real inputs for it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file

from ..recipe.errors import StepFailed

GRAPH = "model.onnx"
WEIGHTS_BESIDE = "model.onnx.data"
OUTPUT = "output"
SAMPLES_FILE = "samples.safetensors"
_SCOPES = "pkg.torch.onnx.name_scopes"
_LAYER = "hone.layer"
#: Above this many bytes the weights lie beside the graph: protobuf ends at 2 GB.
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
        raise StepFailed(f"the graph can't be read: {error}", where=GRAPH) from error


def write_graph(model: Any, folder: Path) -> None:
    """Write an ONNX model; a large one with its weights in a file beside it."""
    large = model.ByteSize() > _BESIDE_ABOVE
    onnx.save_model(
        model,
        str(folder / GRAPH),
        save_as_external_data=large,
        location=WEIGHTS_BESIDE if large else None,
    )


def name_layers(model: Any) -> None:
    """Keep of the exporter's notes only each node's layer: the rest holds paths of the machine."""
    for node in model.graph.node:
        layer = _exported_layer(node)
        del node.metadata_props[:]
        if layer:
            entry = node.metadata_props.add()
            entry.key, entry.value = _LAYER, layer
        node.doc_string = ""


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
            scopes = [str(scope) for scope in ast.literal_eval(entry.value)]
            return next((scope for scope in reversed(scopes[:-1]) if scope), None)
    return None


def load_inputs(folder: Path, count: int | None = None) -> Arrays:
    """Real inputs by name, each `(N, ...)`; at most `count` of them."""
    return {name: value[:count] for name, value in load_file(str(folder / SAMPLES_FILE)).items()}


def in_batches(inputs: Arrays, size: int) -> list[Arrays]:
    """Consecutive batches of at most `size` samples."""
    count = len(next(iter(inputs.values())))
    return [
        {name: value[start : start + size] for name, value in inputs.items()}
        for start in range(0, count, size)
    ]
