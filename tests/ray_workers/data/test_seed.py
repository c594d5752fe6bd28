"""Seeds: one per purpose, and the same numbers as torch's own way of seeding."""

from __future__ import annotations

import torch
from prefect_hone.ray_workers.data.seed import mixed_seed, seed_torch


def test_each_combination_has_its_own() -> None:
    seeds = {mixed_seed(1, step, reader) for step in range(20) for reader in range(20)}
    assert len(seeds) == 400
    assert mixed_seed(1, 2, 3) == mixed_seed(1, 2, 3)


def test_torch_draws_what_it_draws_after_manual_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    seed_torch(7, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)
