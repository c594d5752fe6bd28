"""Heads and MLP units of a transformer, removed with a real change of shape.

Layers that belong together are found as for tensor parallelism (`ray_workers/training/parallel/
tensor.py`): columns of the first layers go with rows of the last. The importance of a head is the
magnitude of its slice of the output projection (after Michel et al.,
https://arxiv.org/abs/1905.10650); that of a unit, the magnitude of its column and row.
"""

from __future__ import annotations

import torch
from torch import nn

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
    for wanted, found, what in ((spec.heads, attention, "attention"), (spec.mlp, mlps, "MLP")):
        if wanted and not found:
            if what == "attention":
                _refuse_known_attention(model)
            raise StepFailed(
                f"the model has no {what} block with known layer names",
                where="prune",
                do="known names: query/key/value/out, q_proj/..., fc1/fc2, up/down, and BERT's; "
                "method: channel prunes models of any layers",
            )
    if spec.heads:
        for group in attention:
            _remove_heads(model, group, spec.heads)
    if spec.mlp:
        for group in mlps:
            _remove_units(model, group, spec.mlp, spec.round_to)
    return model


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
    row = _linear(model, group.row)
    heads = group.head_count(model)
    if heads is None or row.in_features % heads:
        raise StepFailed(f"the number of heads of '{group.row}' is not known", where="prune.heads")
    columns = [_linear(model, name) for name in group.columns]
    if any(c.out_features != row.in_features for c in columns):
        raise StepFailed(
            f"'{group.row}' shares keys among heads (grouped queries), which can't be pruned yet",
            where="prune.heads",
        )
    size = row.in_features // heads
    left = max(1, heads - round(share * heads))
    with torch.no_grad():
        scores = row.weight.reshape(row.out_features, heads, size).norm(dim=(0, 2))
    kept = scores.topk(left).indices.sort().values
    units = (kept[:, None] * size + torch.arange(size)).flatten()
    _slice(columns, row, units)
    for owner, attribute in group.heads:
        module = model.get_submodule(owner)
        setattr(module, attribute, left)
        if isinstance(getattr(module, "all_head_size", None), int):
            module.all_head_size = left * size


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
        column.weight = nn.Parameter(column.weight.detach()[units].clone())
        if column.bias is not None:
            column.bias = nn.Parameter(column.bias.detach()[units].clone())
        column.out_features = len(units)
    row.weight = nn.Parameter(row.weight.detach()[:, units].clone())
    row.in_features = len(units)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)  # noqa: S101 (narrows a type)
    return layer
