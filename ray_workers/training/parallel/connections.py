"""Pairs of linear layers that tensor parallelism can split, found by how layers are connected.

A model is traced (torch.fx, https://arxiv.org/abs/2112.08429) where it can be, as a whole or part
by part. Where the outputs of some linear layers reach another through elementwise operations only,
they can be split by columns, and the other by rows: nothing in between mixes features.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

_MODULES = (
    nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Tanh,
    nn.Sigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh,
    nn.Dropout, nn.Identity,
)  # fmt: skip
_FUNCTIONS = (
    F.relu, F.gelu, F.silu, F.mish, F.elu, F.selu, F.leaky_relu, F.tanh, F.sigmoid, F.softplus,
    F.hardswish, F.dropout, torch.relu, torch.tanh, torch.sigmoid, torch.mul, torch.add, torch.pow,
    operator.mul, operator.add, operator.neg, operator.pow,
)  # fmt: skip
_METHODS = ("relu", "tanh", "sigmoid", "mul", "add", "pow", "float", "contiguous")


@dataclass(frozen=True)
class Pair:
    """Layers that are split together.

    Attributes:
        columns: Linear layers whose outputs are combined, by name.
        row: The linear layer that takes the result.
        width: Features in between (a count).
    """

    columns: tuple[str, ...]
    row: str
    width: int


def find_pairs(model: nn.Module, taken: Iterable[str] = ()) -> list[Pair]:
    """The pairs of a model, in order; a layer is in one of them at most.

    Args:
        model: The whole model.
        taken: Layers that are not available.
    """
    used = set(taken)
    found: list[Pair] = []
    for prefix, graph, owner in _traced(model, ""):
        called = [node.target for node in graph.nodes if node.op == "call_module"]
        for node in graph.nodes:
            pair = _pair_at(node, owner, prefix)
            if pair is None or used & {*pair.columns, pair.row}:
                continue
            if any(
                called.count(name.removeprefix(prefix)) > 1 for name in (*pair.columns, pair.row)
            ):
                continue  # a layer that is called twice has other inputs there
            used |= {*pair.columns, pair.row}
            found.append(pair)
    return found


def _traced(model: nn.Module, prefix: str) -> list[tuple[str, fx.Graph, nn.Module]]:
    """Graphs of a model, or of those of its parts that can be traced, with their names."""
    if isinstance(model, nn.Linear) or not any(
        isinstance(module, nn.Linear) for module in model.modules()
    ):
        return []
    if not isinstance(model, nn.ModuleList | nn.ModuleDict):
        with contextlib.suppress(Exception):  # whatever a forward does with a symbolic value
            return [(prefix, fx.Tracer().trace(model), model)]
    return [
        graph
        for name, part in model.named_children()
        for graph in _traced(part, f"{prefix}{name}.")
    ]


def _pair_at(node: fx.Node, owner: nn.Module, prefix: str) -> Pair | None:
    """The pair of which a node is the row."""
    row = _linear(node, owner)
    if row is None or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    columns = _sources(node.args[0], node, owner)
    if not columns:
        return None
    layers = {name: owner.get_submodule(name) for name in columns}
    if any(layer.out_features != row.in_features for layer in layers.values()):
        return None
    return Pair(tuple(f"{prefix}{n}" for n in layers), f"{prefix}{node.target}", row.in_features)


def _sources(node: fx.Node, row: fx.Node, owner: nn.Module) -> list[str] | None:
    """The linear layers from which a value comes by elementwise operations, all of whose results
    are used for it; None if others do.
    """
    found: list[str] = []
    between: dict[fx.Node, None] = {}
    left = [node]
    while left:
        value = left.pop(0)
        if value in between:
            continue
        between[value] = None
        if _linear(value, owner) is not None:
            found.append(str(value.target))
            continue
        inputs = [one for one in value.args if isinstance(one, fx.Node)]
        named = any(isinstance(one, fx.Node) for one in value.kwargs.values())
        if not inputs or named or not _is_elementwise(value, owner):
            return None
        left[:0] = inputs
    used_for = {*between, row}
    return found if all(used_for.issuperset(value.users) for value in between) else None


def _linear(node: fx.Node, owner: nn.Module) -> Any:
    if node.op != "call_module":
        return None
    layer = owner.get_submodule(str(node.target))
    return layer if type(layer) is nn.Linear else None


def _is_elementwise(node: fx.Node, owner: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(owner.get_submodule(str(node.target)), _MODULES)
    if node.op == "call_method":
        return node.target in _METHODS
    return node.op == "call_function" and node.target in _FUNCTIONS
