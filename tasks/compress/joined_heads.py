"""Heads of attention whose query, key and value are one linear layer, as in GPT-2 and timm's ViT.

Models order the rows of such a layer in two ways: all queries, then all keys, then all values; or
head by head. Names don't say which, nor which attributes of the module hold its sizes. So each way
is tried: it is right if the model then computes what it computed with the removed heads' outputs at
zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...ray_workers.training.parallel.tensor import HEADS
from ...recipe.errors import StepFailed
from .slices import Slicing, linear, places
from .without_heads import computes, without

#: Usual names of a layer that computes query, key and value together.
_JOINED = ("qkv", "to_qkv", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack")
#: Usual names of the width of all heads together.
_WIDTHS = ("split_size", "attn_dim", "all_head_size", "inner_dim", "embed_dim", "hidden_size")

_INSTEAD = (
    "use method: channel, write query, key and value as one nn.Linear each, or prune only mlp"
)


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
        do=_INSTEAD,
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
    sizes = [getattr(owner, key, None) for key in ("head_size", "head_dim")]
    heads += [width // (3 * size) for size in sizes if isinstance(size, int) and size > 0]
    if not rows or not heads or width % (3 * heads[0]):
        unknown = "the layer that reads what its heads give" if heads else "their number"
        raise StepFailed(
            f"'{name}' computes query, key and value in one layer, whose heads can't be removed: "
            f"{unknown} is not known",
            where="prune.heads",
            do=_INSTEAD,
        )
    return [Joined(name, row, heads[0]) for row in rows]


def _removed(model: nn.Module, found: Joined, share: float, inputs: Any) -> bool:
    """Whether the heads could be removed; else nothing is changed."""
    row = linear(model, found.row)
    size = row.in_features // found.heads
    left = max(1, found.heads - round(share * found.heads))
    if left == found.heads:
        return True
    with torch.no_grad():
        scores = row.weight.reshape(row.out_features, found.heads, size).norm(dim=(0, 2))
    kept = scores.topk(left).indices.sort().values
    units = places(kept, size)
    expected = without(model, {found.row: units}, inputs)
    owner = model.get_submodule(found.name.rpartition(".")[0])
    for rows in _orders(kept, size, found.heads):
        for sizes in _sizes(model, found, left, size):
            slicing = Slicing()
            slicing.keep_outputs(linear(model, found.name), rows)
            slicing.keep_units([], row, units)
            for key, value in sizes.items():
                slicing.set(owner, key, value)
            if computes(model, expected, inputs):
                return True
            slicing.undo()
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
