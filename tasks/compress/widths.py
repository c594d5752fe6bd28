"""Heads and MLP units of a transformer, removed with a real change of shape.

Layers that belong together are found as for tensor parallelism (`ray_workers/training/parallel/
tensor.py`): columns of the first layers go with rows of the last. The importance of a head is the
magnitude of its slice of the output projection (after Michel et al.,
https://arxiv.org/abs/1905.10650); that of a unit, the magnitude of its column and row.
"""

from __future__ import annotations

import torch
from torch import nn

from ...ray_workers.training.parallel.connections import find_pairs
from ...ray_workers.training.parallel.tensor import Group, groups_of
from ...recipe.errors import StepFailed
from ...recipe.passes import PruneWidths

#: Usual names of a layer that computes query, key and value together.
_JOINED = ("qkv", "to_qkv", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack")


def prune_widths(spec: PruneWidths, model: nn.Module) -> nn.Module:
    """Remove heads and units in place.

    Raises:
        StepFailed: There are no such blocks, or a layer's heads can't be identified.
    """
    groups = groups_of(model)
    attention = [g for g in groups if g.is_attention]
    mlps = [g for g in groups if not g.is_attention]
    if spec.heads and not attention:
        _refuse_known_attention(model)
        raise _no_block("attention block with known layer names")
    if spec.mlp and not mlps:
        mlps = _connected(model, groups)
    if spec.mlp and not mlps:
        raise _no_block(
            "MLP block with known layer names, and no two linear layers with only an activation "
            "between them"
        )
    if spec.heads:
        for group in attention:
            _remove_heads(model, group, spec.heads)
    if spec.mlp:
        for group in mlps:
            _remove_units(model, group, spec.mlp, spec.round_to)
    return model


def _no_block(what: str) -> StepFailed:
    return StepFailed(
        f"the model has no {what}",
        where="prune",
        do="known names: query/key/value/out, q_proj/..., fc1/fc2, up/down, and BERT's; "
        "method: channel prunes models of any layers",
    )


def _connected(model: nn.Module, groups: list[Group]) -> list[Group]:
    """MLP blocks by how linear layers are connected, where their names say nothing."""
    taken = [name for group in groups for name in (*group.columns, group.row)]
    return [Group(pair.columns, pair.row, False) for pair in find_pairs(model, taken)]


def _refuse_known_attention(model: nn.Module) -> None:
    """Refuse, with its name, a layer that is attention, but whose heads can't be removed."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            raise StepFailed(
                f"'{name}' is an nn.MultiheadAttention, whose heads can't be removed: torch takes "
                "their width from the model's",
                where="prune.heads",
                do="write query, key, value and out as nn.Linear, or prune only mlp",
            )
    for name, _ in model.named_modules():
        if name.rpartition(".")[2] in _JOINED:
            raise StepFailed(
                f"'{name}' computes query, key and value in one layer, whose heads can't be "
                "removed",
                where="prune.heads",
                do="use method: channel, write query, key and value as one nn.Linear each, or "
                "prune only mlp",
            )


def _remove_heads(model: nn.Module, group: Group, share: float) -> None:
    """Remove heads with their keys; of grouped queries, all queries of a key."""
    row = _linear(model, group.row)
    heads = group.head_count(model)
    if heads is None or row.in_features % heads:
        raise StepFailed(f"the number of heads of '{group.row}' is not known", where="prune.heads")
    size = row.in_features // heads
    columns = [_linear(model, name) for name in group.columns]
    keys = _key_count(group, columns, heads, size)
    left = max(1, keys - round(share * keys))
    with torch.no_grad():
        scores = row.weight.reshape(row.out_features, keys, -1).norm(dim=(0, 2))
    kept = scores.topk(left).indices.sort().values
    queries = _units(kept, heads // keys * size)
    own = [layer for layer in columns if layer.out_features == row.in_features]
    shared = [layer for layer in columns if layer.out_features < row.in_features]
    _slice(own, row, queries)
    for layer in shared:
        _narrow(layer, _units(kept, size))
    for owner, attribute in group.heads:
        module = model.get_submodule(owner)
        of_keys = attribute in ("num_key_value_heads", "n_kv_heads")
        setattr(module, attribute, left if of_keys else left * heads // keys)
        if isinstance(getattr(module, "all_head_size", None), int):
            module.all_head_size = len(queries)


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


def _units(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """The places of blocks of a size."""
    return (blocks[:, None] * size + torch.arange(size)).flatten()


def _remove_units(model: nn.Module, group: Group, share: float, round_to: int) -> None:
    row = _linear(model, group.row)
    columns = [_linear(model, name) for name in group.columns]
    width = row.in_features
    left = max(round_to, int(width * (1 - share)) // round_to * round_to)
    if left >= width:
        return
    with torch.no_grad():
        scores = row.weight.norm(dim=0)
        for column in columns:
            scores = scores * column.weight.norm(dim=1)
    _slice(columns, row, scores.topk(left).indices.sort().values)


def _slice(columns: list[nn.Linear], row: nn.Linear, units: torch.Tensor) -> None:
    for column in columns:
        _narrow(column, units)
    row.weight = nn.Parameter(row.weight.detach()[:, units].clone())
    row.in_features = len(units)


def _narrow(column: nn.Linear, units: torch.Tensor) -> None:
    column.weight = nn.Parameter(column.weight.detach()[units].clone())
    if column.bias is not None:
        column.bias = nn.Parameter(column.bias.detach()[units].clone())
    column.out_features = len(units)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)  # noqa: S101 (narrows a type)
    return layer
