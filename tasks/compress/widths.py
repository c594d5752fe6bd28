"""Heads and MLP units of a transformer, removed with a real change of shape.

Layers that belong together are found as for tensor parallelism (`ray_workers/training/parallel/
tensor.py`): columns of the first layers go with rows of the last. The importance of a head is the
magnitude of its slice of the output projection (after Michel et al.,
https://arxiv.org/abs/1905.10650); that of a unit, the magnitude of its column and row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...ray_workers.training.parallel.connections import find_pairs
from ...ray_workers.training.parallel.tensor import Group, groups_of
from ...recipe.errors import StepFailed
from ...recipe.passes import PruneWidths
from .joined_heads import joined_layers, remove_joined_heads
from .separate_heads import remove_heads
from .slices import Slicing, linear


def prune_widths(spec: PruneWidths, model: nn.Module, inputs: Any) -> nn.Module:
    """Remove heads and units in place.

    Args:
        spec: How many.
        model: In evaluation mode.
        inputs: A batch, to prove what names don't say.

    Raises:
        StepFailed: There are no such blocks, or a layer's heads can't be identified.
    """
    groups = groups_of(model, side_by_side=True)
    attention = [g for g in groups if g.is_attention]
    mlps = [g for g in groups if not g.is_attention]
    joined = joined_layers(model) if spec.heads else []
    if spec.heads and not attention and not joined:
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
        remove_heads(model, attention, spec.heads, inputs)
        for name in joined:
            remove_joined_heads(model, name, spec.heads, inputs)
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


def _remove_units(model: nn.Module, group: Group, share: float, round_to: int) -> None:
    row = linear(model, group.row)
    columns = [linear(model, name) for name in group.columns]
    width = row.in_features
    left = max(round_to, int(width * (1 - share)) // round_to * round_to)
    if left >= width:
        return
    with torch.no_grad():
        scores = row.weight.norm(dim=0)
        for column in columns:
            scores = scores * column.weight.norm(dim=1)
    Slicing().keep_units(columns, row, scores.topk(left).indices.sort().values)
