"""Weights that were pruned stay zero."""

from __future__ import annotations

import torch
from prefect_hone.ray_workers.training.zeros import keep_zeros, zero_masks


def test_zeros_of_matrices_stay_zero() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    whole, bias = torch.ones(2, 2), torch.zeros(2)
    parameters = {"weight": weight, "whole": whole, "bias": bias}
    masks = zero_masks(parameters)
    assert set(masks) == {"weight"}, "a bias of zeros may move; what has none needs no mask"
    for value in parameters.values():
        value += 1
    keep_zeros(masks, parameters)
    assert weight.tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert bias.tolist() == [1.0, 1.0]
