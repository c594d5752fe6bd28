"""Layer parity: where along the graph a compressed model departs from the trained one.

Both graphs run in ONNX Runtime on the same real inputs, with the outputs of their layers beside the
usual ones. A tensor is compared with the one of the same name, which quantizers keep.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ray_workers.model.onnx_files import (
    Arrays,
    is_large,
    layer_of,
    load_inputs,
    read_graph,
    write_graph,
)
from ...ray_workers.model.sqnr import LARGEST_SQNR, sqnr_db
from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.file_names import GRAPH
from ...ray_workers.workspace import Result, Workspace
from ...recipe.library_messages import telling
from ..specs.layer_parity import LayerParity, LayerParityFacts, LayerParitySpec

_SAMPLES = 8
_AT_ONCE = 64  # layers
#: A layer that loses less than this (dB), or whose outputs stay this good, is no departure.
_LOSS, _GOOD = 10.0, 15.0


def compare(work: Workspace[LayerParitySpec]) -> Result:
    """Compare the layers of a compressed graph with those of the exported one.

    Inputs: `reference`, `graph`, `samples`. It informs and never fails: what can't be compared is
    told in a note.
    """
    try:
        reference, graph = (read_graph(work.inputs[name]) for name in ("reference", "graph"))
        layers = layer_parity(reference, graph, load_inputs(work.inputs["samples"], _SAMPLES))
    except Exception as error:
        note = f"layers were not compared: {telling(error)[:200]}"
        return Result(facts=LayerParityFacts(), notes=[note])
    found = departure(layers)
    metrics = {"parity/worst_layer_db": min(layer.kept_db for layer in layers)} if layers else {}
    notes = [] if found is None else [f"the outputs depart at {found}"]
    return Result(
        metrics=metrics,
        facts=LayerParityFacts(
            layers=tuple(layers), departs_at=None if found is None else found.layer
        ),
        notes=notes,
    )


def layer_parity(reference: Any, candidate: Any, inputs: Arrays) -> list[LayerParity]:
    """SQNR of each layer's output, and of what went into it, in the order of the graph.

    Args:
        reference: The exported graph.
        candidate: The compressed graph.
        inputs: Real inputs by name, each (N, ...).
    """
    taps = _taps(reference, candidate)
    if not taps:
        return []
    few = {name: value[:_SAMPLES] for name, value in inputs.items()}
    decibels: dict[str, float] = {}
    tensors, seen = list(taps), _rounded(candidate, taps)
    for start in range(0, len(tensors), _AT_ONCE):  # their outputs are in memory together
        some = tensors[start : start + _AT_ONCE]
        expected = _values(reference, some, few)
        found = _values(candidate, [seen[name] for name in some], few)
        decibels |= {
            name: sqnr_db(expected[name], found[seen[name]])
            for name in some
            if expected[name].dtype.kind == "f"
            and expected[name].shape == found[seen[name]].shape
            and np.isfinite(expected[name]).all()
        }
    maker = {output: node for node in reference.graph.node for output in node.output}
    weights = {item.name for item in reference.graph.initializer if len(item.dims) > 1}
    found_layers = []
    traced = {tensor: _before(maker[tensor], maker, set(decibels)) for tensor in decibels}
    for tensor, value in decibels.items():
        sources, nodes = traced[tensor]
        users = (decibels[user] for user, (used, _) in traced.items() if tensor in used)
        weighted = (layer_of(node) for node in nodes if weights.intersection(node.input))
        found_layers.append(
            LayerParity(
                layer=next(weighted, taps[tensor]),
                sqnr_db=value,
                before_db=min((decibels[name] for name in sources), default=LARGEST_SQNR),
                after_db=min(users, default=None),
            )
        )
    return found_layers


def departure(layers: Sequence[LayerParity]) -> LayerParity | None:
    """The layer that loses most, if it loses much; None if the noise only adds up."""
    worst = max(layers, key=lambda one: one.lost_db, default=None)
    if worst is None or worst.lost_db < _LOSS or worst.sqnr_db > _GOOD:
        return None
    return worst


def _taps(reference: Any, candidate: Any) -> dict[str, str]:
    """The last output of each layer that both graphs have, and the layer's name, in order."""
    made = {output for node in candidate.graph.node for output in node.output}
    last: dict[str, str] = {}
    for node in reference.graph.node:
        layer = layer_of(node)
        for output in node.output:
            if output in made and layer:
                last[layer] = output
    order = {output: i for i, node in enumerate(reference.graph.node) for output in node.output}
    tensors = sorted(last.items(), key=lambda pair: order[pair[1]])
    return {tensor: layer for layer, tensor in tensors}


def _rounded(graph: Any, tensors: Iterable[str]) -> dict[str, str]:
    """What the next layers see of each tensor: the rounded values, if it is quantized.

    ONNX Runtime's quantizer drops a ReLU before a quantization whose range begins at zero, so the
    values before it are not those of the exported graph.
    """
    after: dict[str, Any] = {}
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            after.setdefault(node.input[0], node)
    seen = {}
    for tensor in tensors:
        rounding = after.get(tensor)
        unpacking = None if rounding is None else after.get(rounding.output[0])
        seen[tensor] = tensor if unpacking is None else str(unpacking.output[0])
    return seen


def _values(graph: Any, tensors: Sequence[str], inputs: Arrays) -> Arrays:
    """Tensors of a graph for some inputs."""
    import onnx
    import onnxruntime

    tapped = copy.deepcopy(graph)
    have = {output.name for output in tapped.graph.output}
    for tensor in tensors:
        if tensor not in have:
            tapped.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # The layout for convolutions (of "all") ends the process on some fp16 graphs (1.32, AVX-512).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with scratch_folder("layers") as folder:
        source: Any = str(folder / GRAPH)
        if is_large(tapped):
            write_graph(tapped, Path(folder))
        else:
            source = tapped.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    takes = {item.name for item in session.get_inputs()}
    given = {name: value for name, value in inputs.items() if name in takes}
    return dict(zip(tensors, session.run(tensors, given), strict=True))


def _before(last: Any, maker: dict[str, Any], tapped: set[str]) -> tuple[set[str], list[Any]]:
    """What a tapped tensor is computed from, up to the tapped ones before it.

    Args:
        last: The node that makes it.
        maker: The node that makes each tensor.
        tapped: All tapped tensors.

    Returns:
        The tapped tensors before it, and the nodes between, the last one first. A layer whose own
        output isn't in both graphs, such as a convolution before a ReLU, is among these.
    """
    ahead, seen, nodes = list(last.input), set(), [last]
    sources: set[str] = set()
    while ahead:
        name = ahead.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if name in tapped:
            sources.add(name)
        elif name in maker:
            nodes.append(maker[name])
            ahead += maker[name].input
    return sources, nodes
