"""Reckoning what a step costs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from prefect_hone.ray_workers.data.splits import SampleBatch
from prefect_hone.ray_workers.training.measure import (
    CommunicationShare,
    _union,
    flops_per_sample,
    peak_flops,
)
from torch import nn


def event(name: str, start: float, end: float) -> SimpleNamespace:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))


def test_transfers_that_overlap_count_once() -> None:
    events = [
        event("gloo:all_reduce", 0, 10), event("gloo:all_reduce", 5, 12),
        event("nccl:broadcast", 20, 25), event("ncclDevKernel_X", 21, 22),
        event("aten::mm", 0, 100),
    ]  # fmt: skip
    assert _union(events) == 17


def test_a_backward_pass_costs_twice_the_forward() -> None:
    model = nn.Linear(10, 5, bias=False)
    assert flops_per_sample(model, SampleBatch(torch.ones(4, 10), 4)) == 3 * 2 * 10 * 5
    assert model.training


def test_what_can_not_be_counted_is_zero() -> None:
    class Odd(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not on this device")

    assert flops_per_sample(Odd(), SampleBatch(torch.ones(1), 1)) == 0


def test_who_trains_alone_profiles_nothing() -> None:
    share = CommunicationShare(0, 1, enabled=False)
    assert [share.at(step) for step in range(3)] == [None, None, None]
    share.close()


def test_a_machine_computes_something() -> None:
    assert peak_flops(torch.device("cpu"), torch.float32, seconds=0.01) > 1e6


@pytest.mark.parametrize("at", [1, 5])
def test_the_share_of_communication_is_between_nothing_and_all(at: int) -> None:
    share = CommunicationShare(at, 1, enabled=True)
    found = []
    for step in range(at + 2):
        torch.ones(10).sum()
        found.append(share.at(step))
    share.close()
    assert [value for value in found if value is not None] == [0.0]
