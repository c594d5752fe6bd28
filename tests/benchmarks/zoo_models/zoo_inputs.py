"""Random inputs of the zoo's architectures, and the sizes that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

#: 4 of them for test, 8 for train, 4 for validation, 4 for calibration.
SAMPLES = 20
VOCABULARY, LENGTH = 99, 16

Inputs = Callable[[], Any]


def ids(length: int = LENGTH) -> torch.Tensor:
    """Tokens (N, L)."""
    return torch.randint(1, VOCABULARY, (SAMPLES, length))


def text() -> dict[str, torch.Tensor]:
    """Tokens and an attention mask, each (N, L)."""
    return {"input_ids": ids(), "attention_mask": torch.ones(SAMPLES, LENGTH, dtype=torch.long)}


def only_ids() -> dict[str, torch.Tensor]:
    """Tokens (N, L)."""
    return {"input_ids": ids()}


def pair() -> dict[str, torch.Tensor]:
    """Tokens of a source and of a target, each (N, L)."""
    return {"input_ids": ids(), "decoder_input_ids": ids()}


def sentences() -> dict[str, torch.Tensor]:
    """Tokens that end with token 2, at which BART classifies."""
    tokens = ids() % 90 + 3
    tokens[:, -1] = 2
    return {"input_ids": tokens}


def image(size: int = 32, channels: int = 3) -> Callable[[], dict[str, torch.Tensor]]:
    """Images (N, C, H, W)."""
    return lambda: {"pixel_values": torch.randn(SAMPLES, channels, size, size)}


def sound(length: int = 1600) -> Callable[[], dict[str, torch.Tensor]]:
    """Waveforms (N, T)."""
    return lambda: {"input_values": torch.randn(SAMPLES, length)}


def series() -> dict[str, torch.Tensor]:
    """Two channels of a time series (N, T, 2)."""
    return {"past_values": torch.randn(SAMPLES, 32, 2)}


def text_and_image() -> dict[str, torch.Tensor]:
    """Tokens, their mask, and images."""
    return {**text(), **image()()}


def forecast() -> dict[str, torch.Tensor]:
    """A series with the features of its times, past (N, T) and future."""
    return {
        "past_values": torch.randn(SAMPLES, 14),
        "past_time_features": torch.randn(SAMPLES, 14, 2),
        "past_observed_mask": torch.ones(SAMPLES, 14),
        "future_values": torch.randn(SAMPLES, 4),
        "future_time_features": torch.randn(SAMPLES, 4, 2),
    }
