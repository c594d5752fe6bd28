"""Bags of rows of equal length compute what torch's own operator does."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.embedding_bags import plain_embedding_bags
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.tracing import trace
from torch import nn
from torch.nn import functional

WORDS = torch.tensor([[1, 2, 0, 0], [0, 0, 0, 0], [5, 5, 3, 8]])


@pytest.mark.parametrize(
    ("mode", "padding"), [*itertools.product(["sum", "mean", "max"], [None, 0, -1])]
)
def test_two_dimensional_bags(mode: str, padding: int | None) -> None:
    torch.manual_seed(0)
    bag = nn.EmbeddingBag(9, 5, mode=mode, padding_idx=padding)
    expected = bag(WORDS)
    with plain_embedding_bags():
        torch.testing.assert_close(bag(WORDS), expected)
    torch.testing.assert_close(bag(WORDS), expected)


def test_weighted_bags_and_bags_by_offsets() -> None:
    torch.manual_seed(0)
    bag, weights = nn.EmbeddingBag(9, 5, mode="sum"), torch.rand(3, 4)
    flat: dict[str, Any] = {"input": WORDS.flatten(), "offsets": torch.tensor([0, 3, 9])}
    expected = bag(WORDS, per_sample_weights=weights), bag(**flat)
    original = functional.embedding_bag
    with plain_embedding_bags():
        torch.testing.assert_close(bag(WORDS, per_sample_weights=weights), expected[0])
        torch.testing.assert_close(bag(**flat), expected[1])
    assert functional.embedding_bag is original


def test_the_exported_graph_has_no_loop() -> None:
    bag = nn.EmbeddingBag(9, 5, padding_idx=0).eval()
    graph = to_onnx(bag, trace(bag, {"input": WORDS.numpy()}))
    assert not {"Loop", "If"} & {node.op_type for node in graph.graph.node}
