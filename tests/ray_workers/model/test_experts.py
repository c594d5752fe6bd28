"""Experts of transformers' models change their form for the export only."""

from __future__ import annotations

import contextlib

import pytest
from prefect_hone.ray_workers.model.experts import exportable_experts
from torch import nn


class Experts(nn.Module):
    """The part of transformers' interface that is used."""

    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__()
        self.now, self.known = {"": "grouped_mm"}, known

    def get_experts_implementation(self) -> dict[str, str]:
        return dict(self.now)

    def set_experts_implementation(self, wanted: str | dict[str, str]) -> None:
        name = wanted if isinstance(wanted, str) else wanted[""]
        if name not in self.known:
            raise ValueError(name)
        self.now = {"": name}


@pytest.mark.parametrize(
    ("known", "within"),
    [(("grouped_mm", "batched_mm"), "batched_mm"), (("grouped_mm",), "grouped_mm")],
)
def test_they_are_batched_within_and_as_before_after(known: tuple[str, ...], within: str) -> None:
    experts = Experts(known)
    with contextlib.suppress(KeyError), exportable_experts(nn.Sequential(experts)):
        assert experts.now == {"": within}
        raise KeyError("an export that fails")
    assert experts.now == {"": "grouped_mm"}
