"""Samples as a report shows them: a small picture, or their numbers."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...ray_workers.data.calling import Arrays
from ..specs.shown import ShownSample

Array = np.ndarray[Any, Any]
_LARGEST = 64  # pixels
_MOST_NUMBERS, _MOST_TEXT, _MOST_PART = 24, 300, 24
_CHANNELS = (1, 3, 4)


def shown(inputs: Arrays, text: Callable[[Any], str] | None, sample: Any) -> ShownSample:
    """A sample.

    Args:
        inputs: Its inputs, each (1, ...).
        text: The user's own function from a sample's inputs to a text, or None.
        sample: The sample's inputs, as the data set has them.
    """
    if text is not None:
        return ShownSample(text=str(text(sample))[:_MOST_TEXT])
    for values in inputs.values():
        if values.ndim == 4 and (values.dtype.kind == "f" or values.dtype == np.uint8):
            return ShownSample(picture=_picture(values[0]))
    parts = [_numbers(name, values[0], len(inputs) > 1) for name, values in inputs.items()]
    return ShownSample(text="; ".join(parts)[:_MOST_TEXT])


def part_names(
    values: Array, masks: Sequence[Array], text: Callable[[Any], str] | None
) -> tuple[str, ...]:
    """What parts of tokens or of features are: where each is, with its text or its numbers.

    Args:
        values: The input of a sample.
        masks: Of each part.
        text: The user's own function from tokens to a text, or None. It need not take a part of a
            sample: what it fails for is told in numbers.
    """
    return tuple(_part(values, mask, text) for mask in masks)


def _part(values: Array, mask: Array, text: Callable[[Any], str] | None) -> str:
    places = np.flatnonzero(mask)
    first, last = int(places[0]), int(places[-1])
    where = str(first) if first == last else f"{first}-{last}"
    if text is not None:
        with contextlib.suppress(Exception):  # the user's, made for whole samples
            said = str(text(torch.from_numpy(values[mask])))[:_MOST_PART]
            return f"{where}: {said if said.strip() else repr(said)}"  # a space is seen
    numbers = " ".join(f"{value:.4g}" for value in values[mask][:4].tolist())
    return f"{where}: {numbers}" + (" …" if len(places) > 4 else "")


def _picture(values: Array) -> str:
    """A PNG as base64, at most 64 pixels high and wide, from the darkest to the lightest value."""
    is_last = values.shape[-1] in _CHANNELS and values.shape[0] not in _CHANNELS
    pixels = values if is_last else np.moveaxis(values, 0, -1)
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]
    pixels = np.nan_to_num(pixels.astype(np.float64))
    low, high = pixels.min(), pixels.max()
    grey = (255 * (pixels - low) / max(high - low, 1e-12)).astype(np.uint8)
    image = Image.fromarray(grey[..., 0] if grey.shape[-1] == 1 else grey)
    image.thumbnail((_LARGEST, _LARGEST))
    written = io.BytesIO()
    image.save(written, "png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def _numbers(name: str, values: Array, named: bool) -> str:
    flat = values.ravel()
    told = " ".join(f"{value:.4g}" for value in flat[:_MOST_NUMBERS].tolist())
    more = f" … ({flat.size} numbers)" if flat.size > _MOST_NUMBERS else ""
    return f"{name}: {told}{more}" if named else told + more
