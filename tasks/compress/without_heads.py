"""What a model computes without some heads' outputs: the proof that the right ones are gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...ray_workers.data.calling import called, chosen_output, main_output_name, named_outputs
from .slices import Slicing, linear

#: Largest difference of an output, in units of the largest.
_SAME = 1e-4

Outputs = dict[str, torch.Tensor]


def without(model: nn.Module, kept: Mapping[str, torch.Tensor], inputs: Any) -> Outputs:
    """The outputs if layers read zero in place of heads.

    Args:
        model: In evaluation mode; it is left as it was.
        kept: The units that are not zero, by the name of the layer that reads them.
        inputs: A batch.
    """
    masking = Slicing()
    for name, units in kept.items():
        row = linear(model, name)
        mask = torch.zeros(row.in_features).index_fill_(0, units, 1.0)
        masking.set(row, "weight", nn.Parameter(row.weight.detach() * mask))
    try:
        return _outputs(model, inputs)
    finally:
        masking.undo()


def computes(model: nn.Module, expected: Outputs, inputs: Any) -> bool:
    """Whether a model computes that; not if it fails, or its main output has another shape. A model
    that draws random numbers only has to run.
    """
    try:
        found, again = _outputs(model, inputs), _outputs(model, inputs)
    except Exception:  # the model's code asks for another number of heads
        return False
    alike = {name: value for name, value in found.items() if value.shape == expected[name].shape}
    if main_output_name(list(found), chosen_output(model)) not in alike:
        return False
    if any(not torch.equal(found[name], again[name]) for name in found):
        return True
    return all(
        bool((value - expected[name]).abs().max() <= _SAME * (1 + expected[name].abs().max()))
        for name, value in alike.items()
    )


def _outputs(model: nn.Module, inputs: Any) -> Outputs:
    with torch.no_grad():
        found = named_outputs(called(model, inputs))
    return {name: value for name, value in found.items() if value.is_floating_point()}
