"""Heads of attention whose query, key and value are layers of their own.

Some blocks have more that belongs to a head: a column of a table of relative positions (Swin), a
scale (Swin v2), a channel of a convolution (Nystromformer), rows of other layers (Longformer). It
goes with its head. A table that all layers of a stack share (T5, MPNet) stays right only if all of
them lose the same heads. What was found is proven by what the model then computes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...ray_workers.training.parallel.tensor import Group
from ...recipe.errors import StepFailed
from .slices import Slicing, linear, places
from .without_heads import computes, without

#: Names of tables of relative positions that several blocks share.
_TABLE = re.compile("bias|position|rel_")
#: Attributes of a layer that say its sizes.
_SIZES = ("in_features", "out_features", "embedding_dim", "in_channels", "out_channels", "groups")


def remove_heads(model: nn.Module, groups: Sequence[Group], share: float, inputs: Any) -> None:
    """Remove heads with their keys, in place; of grouped queries, all queries of a key.

    Args:
        model: In evaluation mode.
        groups: Its attention blocks; none changes nothing.
        share: Of each block's heads to remove.
        inputs: A batch to compare the model's outputs on.

    Raises:
        StepFailed: A layer's heads can't be identified, or the model's code fixes their number.
    """
    blocks = [_Block(model, group, share) for group in groups]
    if all(block.left == block.keys for block in blocks):
        return
    for rest, together in ((False, False), (True, False), (True, True)):
        _choose(blocks, together)
        kept = {block.group.row: block.queries() for block in blocks}
        expected = without(model, kept, inputs)
        slicing = Slicing()
        for block in blocks:
            block.remove(slicing)
            if rest:
                block.remove_rest(slicing)
        if together:
            _keep_columns(model, blocks, slicing)
        if computes(model, expected, inputs):
            return
        slicing.undo()
    raise StepFailed(
        f"the heads of '{blocks[0].group.row}' can't be removed: with fewer of them, the model's "
        "code does not compute what it computes with their outputs at zero",
        where="prune.heads",
        do="prune only mlp, or use method: channel",
    )


class _Block:
    """An attention block.

    Attributes:
        group: Its layers.
        heads: Heads of queries (a count).
        keys: Heads of keys (a count).
        left: How many of these stay.
        kept: Which ones.
    """

    kept: torch.Tensor

    def __init__(self, model: nn.Module, group: Group, share: float) -> None:
        self._model, self.group = model, group
        row = linear(model, group.row)
        heads = group.head_count(model)
        if heads is None or row.in_features % heads:
            raise StepFailed(
                f"the number of heads of '{group.row}' is not known", where="prune.heads"
            )
        self.heads, self._size = heads, row.in_features // heads
        columns = [linear(model, name) for name in group.columns]
        self.keys = _key_count(group, columns, heads, self._size)
        self.left = max(1, self.keys - round(share * self.keys))

    def remove_rest(self, slicing: Slicing) -> None:
        """Of what else the block has for each head: rows of linear layers, places of parameters."""
        if self.heads != self.keys:
            return
        owner = self._model.get_submodule(self.owner)
        own = {
            id(self._model.get_submodule(name)) for name in (*self.group.columns, self.group.row)
        }
        for module in list(owner.modules()):
            if id(module) in own:
                continue
            if isinstance(module, nn.Linear) and module.out_features == self.heads * self._size:
                slicing.keep_outputs(module, self.queries())
                continue
            for key, parameter in list(module.named_parameters(recurse=False)):
                axes = [i for i, size in enumerate(parameter.shape) if size == self.heads]
                if len(axes) == 1:
                    _keep(slicing, module, key, axes[0], self.kept)

    @property
    def scores(self) -> torch.Tensor:
        """The importance of each head of keys, of 1 together."""
        row = linear(self._model, self.group.row)
        norms = row.weight.detach().reshape(row.out_features, self.keys, -1).norm(dim=(0, 2))
        return norms / norms.sum()

    @property
    def stack(self) -> str:
        """The name of the module that has the list of layers that the block is in."""
        layers = re.split(r"\.\d+(?:\.|$)", self.group.row)[0]
        return layers.rpartition(".")[0]

    @property
    def owner(self) -> str:
        """The name of the module whose heads they are."""
        return self.group.heads[0][0] if self.group.heads else self.group.row.rpartition(".")[0]

    def queries(self) -> torch.Tensor:
        """The units of the heads that stay."""
        return places(self.kept, self.heads // self.keys * self._size)

    def remove(self, slicing: Slicing) -> None:
        """Keep the heads that stay alone."""
        row = linear(self._model, self.group.row)
        columns = [linear(self._model, name) for name in self.group.columns]
        own = [layer for layer in columns if layer.out_features == row.in_features]
        shared = [layer for layer in columns if layer.out_features < row.in_features]
        width, queries = row.in_features, self.queries()
        slicing.keep_units(own, row, queries)
        for layer in shared:
            slicing.keep_outputs(layer, places(self.kept, self._size))
        for owner, attribute in self.group.heads:
            module = self._model.get_submodule(owner)
            of_keys = attribute in ("num_key_value_heads", "n_kv_heads")
            count = self.left if of_keys else self.left * self.heads // self.keys
            slicing.set(module, attribute, count)
            for key in ("all_head_size", "inner_dim"):
                if getattr(module, key, None) == width:
                    slicing.set(module, key, len(queries))


def _choose(blocks: Sequence[_Block], together: bool) -> None:
    """Each block's most important heads; or the same ones in all blocks of a stack."""
    for block in blocks:
        alike = [b for b in blocks if (b.stack, b.keys) == (block.stack, block.keys)]
        chosen = alike if together else [block]
        scores = torch.stack([one.scores for one in chosen]).sum(0)
        block.kept = scores.topk(block.left).indices.sort().values


def _keep_columns(model: nn.Module, blocks: Sequence[_Block], slicing: Slicing) -> None:
    """Of the tables that the blocks of a stack share."""
    owners = tuple(f"{block.owner}." for block in blocks)
    for name, parameter in model.named_parameters():
        place, _, key = name.rpartition(".")
        if not _TABLE.search(name) or name.startswith(owners):
            continue
        for block in blocks:
            inside = f"{block.stack}." if block.stack else ""
            if parameter.shape[-1] == block.heads == block.keys and name.startswith(inside):
                _keep(slicing, model.get_submodule(place), key, parameter.ndim - 1, block.kept)
                break


def _keep(slicing: Slicing, module: nn.Module, key: str, axis: int, kept: torch.Tensor) -> None:
    """Keep places along an axis of a parameter."""
    held = getattr(module, key)
    value = held.detach().index_select(axis, kept)
    slicing.set(module, key, nn.Parameter(value, requires_grad=held.requires_grad))
    for size in _SIZES:
        if getattr(module, size, None) == held.shape[axis]:
            slicing.set(module, size, len(kept))


def _key_count(group: Group, columns: list[nn.Linear], heads: int, size: int) -> int:
    """Heads of the keys and values, which several heads of queries may share."""
    found: set[int] = {layer.out_features // size for layer in columns}
    keys = min(found)
    whole = all(layer.out_features % size == 0 for layer in columns)
    if not whole or heads not in found or found > {heads, keys} or heads % max(keys, 1):
        raise StepFailed(
            f"the {heads} heads of '{group.row}' don't fit its query, key and value",
            where="prune.heads",
            do="prune only mlp, or use method: channel",
        )
    if keys == 1 < heads:
        raise StepFailed(
            f"the {heads} heads of '{group.row}' share one key, so none can be removed",
            where="prune.heads",
            do="prune only mlp, or use method: channel",
        )
    return keys
