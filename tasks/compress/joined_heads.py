"""Heads of attention whose query, key and value are one linear layer, as in GPT-2 and timm's ViT.

Models order the rows of such a layer in two ways: all queries, then all keys, then all values; or
head by head. Names don't say which, nor which attributes of the module hold its sizes. So each way
is tried: it is right if the model then computes what it computed with the removed heads' outputs at
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...ray_workers.data.calling import called, chosen_output, main_output_name, named_outputs
from ...ray_workers.training.parallel.tensor import HEADS
from ...recipe.errors import StepFailed
from .slices import keep_outputs, keep_units, linear, places

#: Usual names of a layer that computes query, key and value together.
_JOINED = ("qkv", "to_qkv", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack")
#: Usual names of the width of all heads together.
_WIDTHS = ("split_size", "attn_dim", "all_head_size", "inner_dim", "embed_dim", "hidden_size")
#: Largest difference of an output, in units of the largest.
_SAME = 1e-4


@dataclass(frozen=True)
class Joined:
    """A layer that computes query, key and value together.

    Attributes:
        name: The layer's.
        row: Name of the layer that reads what the heads give.
        heads: Number of heads.
    """

    name: str
    row: str
    heads: int


def joined_layers(model: nn.Module) -> list[str]:
    """Names of layers that usually compute query, key and value together."""
    return [
        name
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _JOINED and isinstance(module, nn.Linear)
    ]


def remove_joined_heads(model: nn.Module, name: str, share: float, inputs: Any) -> None:
    """Remove the heads whose slices of the output projection are smallest, in place.

    Args:
        model: In evaluation mode.
        name: Of the layer with query, key and value.
        share: Of the heads to remove.
        inputs: A batch to compare the model's outputs on.

    Raises:
        StepFailed: The heads can't be identified, or the model's code fixes their number.
    """
    candidates = _identify(model, name)
    if any(_removed(model, one, share, inputs) for one in candidates):
        return
    raise StepFailed(
        f"the heads of '{name}' can't be removed: with fewer of them, the model's code does not "
        "compute what it computes with their outputs at zero",
        where="prune.heads",
        do="use method: channel, write query, key and value as one nn.Linear each, or prune only "
        "mlp",
    )


def _identify(model: nn.Module, name: str) -> list[Joined]:
    """The layer with each layer that may read what its heads give."""
    owner_name = name.rpartition(".")[0]
    owner, width = model.get_submodule(owner_name), linear(model, name).out_features
    rows = [
        row
        for other, module in owner.named_modules()
        if isinstance(module, nn.Linear) and module.in_features * 3 == width
        and (row := f"{owner_name}.{other}".strip(".")) != name
    ]  # fmt: skip
    heads = [n for key in HEADS if isinstance(n := getattr(owner, key, None), int) and n > 0]
    if not rows or not heads or width % (3 * heads[0]):
        unknown = "the layer that reads what its heads give" if heads else "their number"
        raise StepFailed(
            f"'{name}' computes query, key and value in one layer, whose heads can't be removed: "
            f"{unknown} is not known",
            where="prune.heads",
            do="use method: channel, write query, key and value as one nn.Linear each, or prune "
            "only mlp",
        )
    return [Joined(name, row, heads[0]) for row in rows]


def _removed(model: nn.Module, found: Joined, share: float, inputs: Any) -> bool:
    """Whether the heads could be removed; else nothing is changed."""
    row = linear(model, found.row)
    size = row.in_features // found.heads
    left = max(1, found.heads - round(share * found.heads))
    if left == found.heads:
        return True
    whole = row.weight
    with torch.no_grad():
        scores = whole.reshape(row.out_features, found.heads, size).norm(dim=(0, 2))
        kept = scores.topk(left).indices.sort().values
        units = places(kept, size)
        mask = torch.zeros(row.in_features).index_fill_(0, units, 1.0)
        row.weight = nn.Parameter(whole * mask)
    expected = _outputs(model, inputs)
    row.weight = whole
    for rows in _orders(kept, size, found.heads):
        for sizes in _sizes(model, found, left, size):
            undo = _apply(model, found, sizes, rows, units)
            if _same(expected, model, inputs):
                return True
            undo()
    return False


def _orders(kept: torch.Tensor, size: int, heads: int) -> Iterator[torch.Tensor]:
    """The rows that belong to heads: of three parts one after the other; head by head."""
    yield torch.cat([places(kept + part * heads, size) for part in range(3)])
    yield places(kept, 3 * size)


def _sizes(model: nn.Module, found: Joined, left: int, size: int) -> Iterator[dict[str, int]]:
    """New values of the module's attributes: those of the heads alone, then of all their width."""
    owner = model.get_submodule(found.name.rpartition(".")[0])
    width = found.heads * size
    counts = {key: left for key in HEADS if getattr(owner, key, None) == found.heads}
    widths = {key: left * size for key in _WIDTHS if getattr(owner, key, None) == width}
    yield counts
    if widths:
        yield counts | widths


def _apply(
    model: nn.Module, found: Joined, sizes: dict[str, int], rows: torch.Tensor, units: torch.Tensor
) -> Callable[[], None]:
    """Change the layers and the module's sizes; returns what undoes it."""
    owner = model.get_submodule(found.name.rpartition(".")[0])
    layer, row = linear(model, found.name), linear(model, found.row)
    before = layer.weight, layer.bias, row.weight, {key: getattr(owner, key) for key in sizes}

    def undo() -> None:
        layer.weight, layer.bias, row.weight, kept = before
        layer.out_features, row.in_features = layer.weight.shape[0], row.weight.shape[1]
        for key, value in kept.items():
            setattr(owner, key, value)

    keep_outputs(layer, rows)
    keep_units([], row, units)
    for key, value in sizes.items():
        setattr(owner, key, value)
    return undo


def _outputs(model: nn.Module, inputs: Any) -> dict[str, torch.Tensor]:
    """The outputs of floats, whatever their shape."""
    with torch.no_grad():
        found = named_outputs(called(model, inputs))
    return {name: value for name, value in found.items() if value.is_floating_point()}


def _same(expected: dict[str, torch.Tensor], model: nn.Module, inputs: Any) -> bool:
    try:
        found = _outputs(model, inputs)
    except Exception:  # the model's code asks for another number of heads
        return False
    alike = {name: value for name, value in found.items() if value.shape == expected[name].shape}
    return main_output_name(list(found), chosen_output(model)) in alike and all(
        (value - expected[name]).abs().max() <= _SAME * (1 + expected[name].abs().max())
        for name, value in alike.items()
    )
