"""An exported graph in the form that torchao's quantizer takes."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import fx

_PADDED = {
    torch.ops.aten.conv1d.padding: torch.ops.aten.conv1d.default,
    torch.ops.aten.conv2d.padding: torch.ops.aten.conv2d.default,
    torch.ops.aten.conv3d.padding: torch.ops.aten.conv3d.default,
}


def in_torchaos_form(graph: fx.GraphModule) -> fx.GraphModule:
    """The same graph, changed in place.

    What no output depends on is left out: torchao asks for the output of each layer. Convolutions
    get their padding in numbers: torchao refuses `padding="same"` and `"valid"`. Batch norms with
    no running statistics, which standardize weights, become a difference and a product: torchao
    would switch them to evaluation, where they have nothing to normalize with.
    """
    graph.graph.eliminate_dead_code()
    for node in list(graph.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _PADDED:
            _pad_by_numbers(graph, node)
        elif node.target is torch.ops.aten.batch_norm.default and node.args[3] is None:
            _normalize_by_hand(graph, node)
    graph.recompile()
    return graph


def floats_alone(graph: fx.GraphModule) -> fx.GraphModule:
    """Leave operators on integers alone, as those of positions are: torchao rounds them, too."""
    for node in graph.graph.nodes:
        annotation = node.meta.get("quantization_annotation")
        if annotation is None:
            continue
        values = [one.meta.get("val") for one in (node, *annotation.input_qspec_map)]
        if any(isinstance(v, torch.Tensor) and not v.is_floating_point() for v in values):
            del node.meta["quantization_annotation"]
    return graph


def _pad_by_numbers(graph: fx.GraphModule, node: fx.Node) -> None:
    """https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given: dict[str, Any] = {"padding": "valid"}
    given |= dict(zip(names, node.args, strict=False)) | node.kwargs
    kernel = given["weight"].meta["val"].shape[2:]
    dilation = _each(given.get("dilation", 1), len(kernel))
    around = [
        d * (k - 1) if given["padding"] == "same" else 0
        for d, k in zip(dilation, kernel, strict=True)
    ]
    source = given["input"]
    before = [one // 2 for one in around]
    if any(one % 2 for one in around):  # more at the end than at the beginning
        pads = [n for one in reversed(around) for n in (one // 2, one - one // 2)]
        with graph.graph.inserting_before(node):
            source = _call(graph, torch.ops.aten.constant_pad_nd.default, source, pads, 0.0)
        before = [0] * len(around)
    node.target = _PADDED[node.target]
    node.args = (
        source, given["weight"], given.get("bias"), _each(given.get("stride", 1), len(kernel)),
        before, dilation, given.get("groups", 1),
    )  # fmt: skip
    node.kwargs = {}


def _each(value: Any, count: int) -> list[int]:
    """A number for each axis of what is given for all or for each."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _normalize_by_hand(graph: fx.GraphModule, node: fx.Node) -> None:
    values, weight, bias, *_, epsilon, _cudnn = node.args
    assert isinstance(values, fx.Node)  # noqa: S101 (narrows a type)
    rank = values.meta["val"].dim()
    axes, shape = [0, *range(2, rank)], [1, -1, *[1] * (rank - 2)]
    aten = torch.ops.aten
    call = functools.partial(_call, graph)
    with graph.graph.inserting_before(node):
        mean = call(aten.mean.dim, values, axes, True)
        variance = call(aten.var.correction, values, axes, correction=0, keepdim=True)
        spread = call(aten.rsqrt.default, call(aten.add.Scalar, variance, epsilon))
        result = call(aten.mul.Tensor, call(aten.sub.Tensor, values, mean), spread)
        if weight is not None:
            result = call(aten.mul.Tensor, result, call(aten.view.default, weight, shape))
        if bias is not None:
            result = call(aten.add.Tensor, result, call(aten.view.default, bias, shape))
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)


def _call(graph: fx.GraphModule, operator: Any, *arguments: Any, **options: Any) -> fx.Node:
    """A new node with its example value, which torchao looks at."""
    node = graph.graph.call_function(operator, arguments, options)
    examples = fx.map_arg(arguments, lambda one: one.meta["val"])
    with torch.no_grad():
        node.meta["val"] = operator(*examples, **options)
    return node
