"""dynamic-int8, weight-int8, weight-int4, and shorter floating-point formats (fp16, bf16)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import PRECISION, graphs_of, layer_of, set_property
from ....recipe.errors import StepFailed
from ....recipe.library_messages import telling
from ....recipe.passes import DynamicInt8, HalfFloat, WeightOnly
from .by_nncf import dataset, require_nncf
from .job import (
    HEAVY,
    RECURRENT,
    QuantizeJob,
    constants_in,
    index_nodes,
    reaches_bodies,
    used_names,
)
from .shared_constants import merge_equal, unshare, unshare_tables

#: Smaller weights cost more to unpack than they save.
_SMALLEST = 512
#: Smaller groups of int4 weights cost more for scales than they save.
_SMALLEST_GROUP = 16
#: What NNCF appends to the name of a product that it packs.
_PACKED = "_compressed_matmul"


def dynamic_int8(job: QuantizeJob, spec: DynamicInt8) -> Any:
    """Weights in int8, activations quantized with the range of each call, by ONNX Runtime."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = job.scratch / "quantized.onnx"
    products = [n for n in job.graph.graph.node if n.op_type == "MatMul"]
    stacked = _stacked(job.graph, products) if spec.per_channel else {}
    job.left |= {layer_of(node): why for node, why in stacked.values()}
    quantize_dynamic(
        str(job.prepared()),
        str(target),
        per_channel=spec.per_channel,
        reduce_range=bool(spec.reduce_range),
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*job.skipped, *stacked],
        op_types_to_quantize=["MatMul", "Gemm"],
        use_external_data_format=job.large,
        extra_options={"EnableSubgraph": True} if reaches_bodies(job.graph) else {},
    )
    return onnx.load(str(target))


def weight_only(job: QuantizeJob, spec: WeightOnly) -> Any:
    """Weights in int8 or int4, unpacked by DequantizeLinear where they are used.

    Raises:
        StepFailed: The graph has convolutions, which int4 does not support; with their names.
    """
    if spec.scheme == "weight-int4":
        return _int4(job, spec)
    return _int8(job)


def _int8(job: QuantizeJob) -> Any:
    """Symmetric int8 with one scale per output channel, also in bodies of If, Loop and Scan."""
    import onnx

    graph = onnx.load(str(job.source))
    owners = {
        name: (inner, item)
        for inner in graphs_of(graph.graph)
        for name, item in constants_in(inner).items()
    }
    done: dict[str, str] = {}
    added: dict[str, Any] = {}
    for inner in graphs_of(graph.graph):
        for node in inner.node:
            if node.op_type not in (*HEAVY, *RECURRENT) or node.name in job.skipped:
                continue
            for position in (1, 2) if node.op_type in RECURRENT else (1,):
                name = node.input[position] if len(node.input) > position else ""
                if name not in owners or np.prod(owners[name][1].dims) < _SMALLEST:
                    continue
                if name not in done:
                    owner, item = owners[name]
                    done[name] = f"{name}_unpacked"
                    added[name] = _unpacking(owner, item, node)
                node.input[position] = done[name]
    for name, unpacking in added.items():
        owners[name][0].node.insert(0, unpacking)
    used = used_names(graph)
    for name in done:
        if name not in used:
            owners[name][0].initializer.remove(owners[name][1])
    return graph


def _unpacking(owner: Any, item: Any, node: Any) -> Any:
    """Round a weight, and the node that unpacks it."""
    import onnx
    from onnx import numpy_helper

    name, weight = item.name, numpy_helper.to_array(item).astype(np.float32)
    axis = _output_axis(node, weight.ndim)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), 1e-12) / 127
    shape = [1] * weight.ndim
    shape[axis] = -1
    rounded = np.clip(np.round(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
    for suffix, array in (("_int8", rounded), ("_scale", scale.astype(np.float32))):
        owner.initializer.append(numpy_helper.from_array(array, name + suffix))
    return onnx.helper.make_node(
        "DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [f"{name}_unpacked"],
        name=f"{name}_unpack", axis=axis,
    )  # fmt: skip


def _output_axis(node: Any, dimensions: int) -> int:
    """Of the weight: the axis of output channels."""
    if node.op_type == "MatMul":
        return dimensions - 1
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if transposed else 1
    return 1 if node.op_type in ("ConvTranspose", *RECURRENT) else 0


def _int4(job: QuantizeJob, spec: WeightOnly) -> Any:
    import onnx

    convolutions = [n for n in job.graph.graph.node if n.op_type.startswith("Conv")]
    products = [
        n
        for n in job.graph.graph.node
        if n.op_type in ("MatMul", "Gemm") and n.name not in job.skipped
    ]
    if not products:
        named = ", ".join(f"'{layer_of(n)}'" for n in convolutions[:5])
        raise StepFailed(
            f"int4 weights are supported in matrix products only, not in convolutions: {named}",
            where="quantize.scheme",
            do="use static-int8 or weight-int8 for convolutions",
        )
    nncf = require_nncf()
    graph = onnx.load(str(job.source))
    unshare_tables(graph, graph.graph.node)
    unshare(graph)
    unfit = _unfit(graph, products)
    products = [node for node in products if node.name not in unfit]
    group, odd = _grouped(graph, products, spec.group_size)
    job.left |= odd | {layer_of(n): why for n, why in unfit.values()}
    if group != spec.group_size:
        job.notes.append(f"groups of {group} weights, because layers have narrower inputs")
    with_data = spec.algorithm != "rtn"
    # NNCF 3.4 would pack convolutions and embeddings, too, into a graph that no runtime takes.
    ignored = [
        *job.skipped,
        *(str(node.name) for node in convolutions),
        *(str(node.name) for node in job.graph.graph.node if node.op_type == "Gather"),
        *unfit,
        *(str(node.name) for node in products if layer_of(node) in odd),
    ]
    try:
        packed = nncf.compress_weights(
            graph,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=group,
            all_layers=True,
            ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
            awq=True if spec.algorithm == "awq" else None,
            dataset=dataset(nncf, job) if with_data else None,
        )
    except Exception as error:
        if spec.algorithm == "rtn":
            raise
        raise StepFailed(
            f"NNCF can't do {spec.algorithm} on this graph: {telling(error)}",
            where="quantize.algorithm",
            do="use algorithm rtn",
        ) from error
    _add_once(packed, {str(node.name) for node in products if node.op_type == "MatMul"})
    merge_equal(packed)
    return packed


def _add_once(graph: Any, products: Collection[str]) -> None:
    """Take out of each packed product the bias that the node after it adds, in place.

    NNCF 3.4 gives the bias to MatMulNBits, and leaves the addition.
    """
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits" and node.name.removesuffix(_PACKED) in products:
            del node.input[5:]


def _stacked(graph: Any, products: list[Any]) -> dict[str, tuple[Any, str]]:
    """Products whose weight is no matrix, but a stack of them, by name, with the reason."""
    axes = {item.name: len(item.dims) for item in graph.graph.initializer}
    return {
        str(node.name): (node, f"its weight has {axes[node.input[1]]} axes")
        for node in products
        if axes.get(node.input[1], 2) != 2
    }


def _unfit(graph: Any, products: list[Any]) -> dict[str, tuple[Any, str]]:
    """Products that NNCF would pack, into what MatMulNBits can't compute, with the reason."""
    weights = {item.name for item in graph.graph.initializer}
    first = {
        str(node.name): (node, "its weight is the first of the two factors")
        for node in products
        if node.input[0] in weights
    }
    scaled = {
        str(node.name): (node, "its product is scaled or turned")
        for node in products
        if any(a.i if a.name == "transA" else a.f not in (0.0, 1.0) for a in node.attribute)
    }
    return first | scaled | _stacked(graph, products)


def _grouped(graph: Any, products: list[Any], wanted: int) -> tuple[int, dict[str, str]]:
    """The size of a group that most weights can be cut into, and why other layers can't.

    Raises:
        StepFailed: No layer can; with their names and widths.
    """
    widths = {
        layer_of(node): width
        for node in products
        if (width := _input_width(graph, node)) is not None
    }
    sizes = [wanted]
    while sizes[-1] > _SMALLEST_GROUP:
        sizes.append(sizes[-1] // 2)
    counts = _counts(graph, products)
    group = max(
        sizes, key=lambda size: sum(counts[n] for n, width in widths.items() if width % size == 0)
    )
    odd = {name: width for name, width in widths.items() if width % group}
    if widths and len(odd) == len(widths):
        named = ", ".join(f"'{name}' ({width})" for name, width in list(odd.items())[:5])
        raise StepFailed(
            f"int4 weights share a scale in groups of {sizes[-1]} or more inputs, and no layer has "
            f"a multiple of that: {named}",
            where="quantize.group_size",
            do="use scheme weight-int8",
        )
    return group, {
        name: f"its {width} inputs are no multiple of groups of {group}"
        for name, width in odd.items()
    }


def _counts(graph: Any, products: list[Any]) -> dict[str, int]:
    """Numbers of weights by layer."""
    dims = {item.name: int(np.prod(item.dims)) for item in graph.graph.initializer}
    return {layer_of(node): dims.get(node.input[1], 0) for node in products}


def _input_width(graph: Any, node: Any) -> int | None:
    values = {item.name: list(item.dims) for item in graph.graph.initializer}
    dims = values.get(node.input[1])
    if dims is None or len(dims) != 2:
        return None
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return int(dims[1] if transposed else dims[0])


def half_float(job: QuantizeJob, spec: HalfFloat) -> Any:
    """fp16 in the graph itself; bf16 as a property that a target honors or refuses."""
    import onnx

    graph = onnx.load(str(job.source))
    if spec.scheme == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        if not job.large:  # it casts what its blocked operators (Max) read, where it knows the type
            with contextlib.suppress(Exception):
                graph = onnx.shape_inference.infer_shapes(graph)
        exact = [*index_nodes(graph), *_reducing_scatters(graph)]
        graph = convert_float_to_float16(
            graph, keep_io_types=True, disable_shape_infer=True, node_block_list=exact
        )
    set_property(graph, PRECISION, spec.scheme)
    return graph


def _reducing_scatters(graph: Any) -> list[str]:
    """Names of what adds up rows in places (experts, graph networks): ONNX Runtime has a kernel for
    fp16 that refuses to on a CPU.
    """
    return [
        str(node.name)
        for node in graph.graph.node
        if node.op_type in ("ScatterND", "ScatterElements")
        and any(a.name == "reduction" and a.s != b"none" for a in node.attribute)
    ]
