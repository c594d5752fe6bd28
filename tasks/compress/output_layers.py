"""Which layers compute a model's outputs: their widths are what whoever calls the model gets.

Found in the graph that autograd records: from an output back to the nearest layers. An output that
the model itself goes on with, such as a hidden state that is returned beside the logits, may change
its width; the main output never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...ray_workers.data.calling import called, chosen_output, main_output_name, named_outputs

_LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
    nn.ConvTranspose3d, nn.Embedding, nn.RNNBase,
)  # fmt: skip


class Outputs:
    """The outputs whose widths stay.

    Attributes:
        shapes: Of those that must keep theirs, for these inputs.
        layers: Names of the layers that compute them.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        with _every_gradient(model), _recorded(model) as makers, torch.enable_grad():
            found = named_outputs(called(model, inputs))
            main = main_output_name(list(found), chosen_output(model))
            floats = {name: value for name, value in found.items() if value.requires_grad}
            ends = {
                name: value
                for name, value in floats.items()
                if name == main or not _goes_on(value, floats)
            }
            self.shapes = {name: tuple(found[name].shape) for name in (main, *ends)}
            self.layers = frozenset(_nearest(ends, makers))

    def changed(self, outputs: Any) -> str | None:
        """The name of an output that should have kept its shape, and has another."""
        found = named_outputs(outputs)
        for name, shape in self.shapes.items():
            if name not in found or tuple(found[name].shape) != shape:
                return name
        return None


@contextmanager
def _every_gradient(model: nn.Module) -> Iterator[None]:
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[Any, str]]:
    """While the model runs: the layer of each node of autograd's graph that a layer's output is."""
    makers: dict[Any, str] = {}

    def record(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            values = output if isinstance(output, tuple) else (output,)
            for value in values:
                if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                    makers.setdefault(value.grad_fn, name)

        return hook

    handles = [
        module.register_forward_hook(record(name))
        for name, module in model.named_modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        yield makers
    finally:
        for handle in handles:
            handle.remove()


def _goes_on(value: torch.Tensor, outputs: Mapping[str, torch.Tensor]) -> bool:
    """Whether another output is computed from this one."""
    others = [other.sum() for other in outputs.values() if other is not value]
    if not others:
        return False
    found = torch.autograd.grad(others, value, retain_graph=True, allow_unused=True)
    return found[0] is not None


def _nearest(ends: Mapping[str, torch.Tensor], makers: Mapping[Any, str]) -> Iterator[str]:
    """The layers from which nothing else lies between them and an output."""
    ahead, seen = [value.grad_fn for value in ends.values()], set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in makers:
            yield makers[node]
        else:
            ahead += [following for following, _ in node.next_functions]
