"""Embedding bags of rows of equal length, in a form that runtimes have.

The exporter makes a loop over the samples of `torch.nn.functional.embedding_bag`, which quantizers
and OpenVINO can't take, and which is slow. Rows of equal length are an embedding and a sum:
https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F


@contextlib.contextmanager
def plain_embedding_bags() -> Iterator[None]:
    """A context in which `embedding_bag` of two-dimensional inputs is an embedding and a sum."""
    original = F.embedding_bag
    F.embedding_bag = _bag(original)
    try:
        yield
    finally:
        F.embedding_bag = original


def _bag(original: Any) -> Any:
    def embedding_bag(
        input: torch.Tensor,  # noqa: A002 (torch's name)
        weight: torch.Tensor,
        offsets: torch.Tensor | None = None,
        max_norm: float | None = None,
        norm_type: float = 2,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        per_sample_weights: torch.Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> torch.Tensor:
        if input.ndim != 2 or max_norm is not None:
            found: torch.Tensor = original(
                input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse,
                per_sample_weights, include_last_offset, padding_idx,
            )  # fmt: skip
            return found
        rows = F.embedding(input, weight)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(-1)
        if padding_idx is None:
            return {"sum": rows.sum(1), "mean": rows.mean(1)}.get(mode, rows.amax(1))
        if padding_idx < 0:
            padding_idx += weight.shape[0]
        kept = (input != padding_idx).unsqueeze(-1)
        if mode == "max":
            largest = rows.masked_fill(~kept, torch.finfo(rows.dtype).min).amax(1)
            return torch.where(kept.any(1), largest, torch.zeros_like(largest))
        total = (rows * kept).sum(1)
        return total if mode == "sum" else total / kept.sum(1).clamp(min=1)

    return embedding_bag
