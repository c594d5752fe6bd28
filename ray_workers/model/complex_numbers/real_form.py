"""Runs a program with each complex value as a pair of real ones, so that it can be traced anew."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.traceback import preserve_node_meta

from ...torch_private import takes_graphs, tree_leaves
from . import fourier, rules
from .pairs import RULES, Constants, NoRealForm, Op, Pair

_REGISTERED = (rules, fourier)


def has_complex(program: Any) -> bool:
    """Whether a `torch.export` program has complex values."""
    return any(
        _complex_in(node)
        for module in program.graph_module.modules() if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
    )  # fmt: skip


def without_complex(
    program: Any, forward: Callable[..., Any], export: Callable[[nn.Module], Any]
) -> Any:
    """A program that computes what another does, with real numbers only.

    Args:
        program: From `torch.export`.
        forward: Of the module that it was exported from.
        export: Exports a module that is called like that one.

    Raises:
        NoRealForm: With the operator that is not known.
    """
    plain = program.run_decompositions({}).module(check_guards=False)
    module = _RealForm(plain, forward)
    found = export(module)
    return export(module) if module.constants.make() else found


class _RealForm(nn.Module):  # type: ignore[misc]
    """A graph with parameters and buffers of the same names; complex ones are split.

    Args:
        source: The graph.
        forward: How it is called.

    Attributes:
        constants: That its operators need.
    """

    def __init__(self, source: fx.GraphModule, forward: Callable[..., Any]) -> None:
        super().__init__()
        for name, child in source.named_children():
            self.add_module(name, child)
        for name, parameter in source.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in source.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        graph = source.graph
        for node in graph.find_nodes(op="get_attr"):
            _keep_constant(source, self, node.target)
        parts = {
            name: _split(self, name, value)
            for name, value in [*self.named_parameters(), *self.named_buffers()]
            if value.is_complex()
        }
        self.constants = Constants(self)
        run = _Run(self, graph, parts, self.constants)

        @functools.wraps(forward)
        def called(*arguments: Any, **named: Any) -> Any:
            flat = [*tree_leaves(arguments), *tree_leaves(named)]
            with preserve_node_meta():
                return graph.process_outputs(run.run(*flat, enable_io_processing=False))

        self.forward = called


def _complex_in(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else [value]
    return any(isinstance(one, torch.Tensor) and one.is_complex() for one in values)


def _keep_constant(source: nn.Module, module: nn.Module, name: str) -> None:
    """Make a tensor that is neither parameter nor buffer a buffer."""
    value = functools.reduce(getattr, name.split("."), source)
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if isinstance(value, torch.Tensor) and last not in owner._parameters | owner._buffers:
        owner.__dict__.pop(last, None)
        owner.register_buffer(last, value.detach())


def _split(module: nn.Module, name: str, value: torch.Tensor) -> tuple[str, str]:
    """Replace a complex parameter or buffer by its parts; returns their names."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    delattr(owner, last)
    for part, numbers in (("real", value.detach().real), ("imag", value.detach().imag)):
        if isinstance(value, nn.Parameter):
            kept = nn.Parameter(numbers.clone(), value.requires_grad)
            owner.register_parameter(f"{last}_{part}", kept)
        else:
            owner.register_buffer(f"{last}_{part}", numbers.clone())
    return f"{name}_real", f"{name}_imag"


class _Run(fx.Interpreter):  # type: ignore[misc]
    """Runs a graph, complex values as pairs.

    Args:
        module: Has real parameters and buffers only.
        graph: Is run.
        parts: Of parameters and buffers that were complex, the names of their parts.
        constants: Of the whole module.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: fx.Graph,
        parts: Mapping[str, tuple[str, str]],
        constants: Constants,
    ) -> None:
        super().__init__(module, graph=graph)
        self._parts = parts
        self._constants = constants
        self._makes_complex = False

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target in self._parts:
            real, imag = (super(_Run, self).get_attr(n, (), {}) for n in self._parts[target])
            return Pair(real, imag)
        found = super().get_attr(target, args, kwargs)
        if isinstance(found, torch.Tensor) and found.is_complex():  # a constant
            return Pair(found.real.clone(), found.imag.clone())
        return found

    def run_node(self, n: fx.Node) -> Any:
        self._makes_complex = _complex_in(n)
        try:
            return super().run_node(n)
        except NoRealForm as error:
            error.place = error.place or n.meta.get("stack_trace") or ""
            raise

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if str(target) == "aten._assert_tensor_metadata.default":
            return None
        if target is torch.ops.aten.copy.default and not _has_pair(args):
            return rules.copied(*args[:2])
        complex_numbers = self._makes_complex or _has_pair(args) or _has_pair([*kwargs.values()])
        if target is operator.getitem or not complex_numbers:
            return super().call_function(target, args, kwargs)
        if takes_graphs(target):
            return self._inner(str(target), args)
        op = Op(target, self._constants)
        if op.packet not in RULES:
            raise NoRealForm(str(target))
        return RULES[op.packet](op, *args, **kwargs)

    def _inner(self, name: str, args: Sequence[Any]) -> Any:
        """A part of the graph under `torch.no_grad` or without autocast: the same, here."""
        at = next((i for i, a in enumerate(args) if isinstance(a, fx.GraphModule)), None)
        plain = name == "wrap_with_set_grad_enabled" or (
            name == "wrap_with_autocast" and not args[2]
        )
        if at is None or not plain:
            raise NoRealForm(name)
        inner = _Run(args[at], args[at].graph, {}, self._constants)
        return inner.run(*args[at + 1 :], enable_io_processing=False)

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        if _has_pair(args):
            raise NoRealForm("an output")
        return super().output(target, args, kwargs)


def _has_pair(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_pair, value))
    return isinstance(value, Pair)
