"""What a model's inputs are: images, tokens or features, by shape and type alone.

Corruptions and explanations change one input; which one, and how, is found here, so that the check
can refuse what later steps can't do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...recipe.errors import InputError, did_you_mean
from ...recipe.proofs import InputKind, Proofs
from .calling import Arrays

Array = np.ndarray[Any, Any]

#: Channels that a picture can have, where the axis of channels has to be told from the others.
_CHANNELS = (1, 3, 4)
#: Inputs beside tokens that say where they are, or which of them count.
_BESIDE_TOKENS = ("attention_mask", "token_type_ids", "position_ids")
_MASK = "attention_mask"
_TAKEN = {
    "images": "4-D floats or uint8",
    "tokens": "2-D integers",
    "features": "floats",
}


@dataclass(frozen=True)
class ChangedInput:
    """The input that is changed.

    Attributes:
        name: Its name.
        kind: What it is.
        channels_last: Of images: whether they are (N, H, W, C), not (N, C, H, W).
        mask: Of tokens: name of the input that says which of them count, or None.
        padding: Of tokens: the one that stands for nothing.
    """

    name: str
    kind: InputKind
    channels_last: bool = False
    mask: str | None = None
    padding: int = 0

    def counting(self, inputs: Arrays) -> Array:
        """Which tokens of a batch count (N, T): neither masked nor padding."""
        tokens = inputs[self.name]
        counts: Array = tokens != self.padding
        if self.mask is not None:
            counts &= inputs[self.mask] != 0
        return counts


def find_input(inputs: Arrays, proofs: Proofs) -> ChangedInput:
    """The input that is changed.

    Args:
        inputs: A few samples, each input (N, ...).
        proofs: What the recipe says of it.

    Raises:
        InputError: None fits, or several do.
    """
    if proofs.input is not None and proofs.input not in inputs:
        raise InputError(
            f"the model has no input '{proofs.input}': {did_you_mean(proofs.input, list(inputs))}",
            where="proofs.input",
        )
    looked_at = inputs if proofs.input is None else {proofs.input: inputs[proofs.input]}
    asked: tuple[InputKind, ...] = ("images", "tokens", "features")
    if proofs.kind != "auto":
        asked = (proofs.kind,)
    strict = proofs.kind == "auto"
    found = [
        (name, kind)
        for name, values in looked_at.items()
        for kind in asked
        if _fits(name, values, kind, strict, alone=len(looked_at) == 1)
    ]
    if len(found) == 1:
        name, kind = found[0]
        channels_last = kind == "images" and _channels_last(inputs[name].shape)
        mask = _mask_of(inputs, name) if kind == "tokens" else None
        return ChangedInput(name, kind, channels_last, mask, proofs.padding_token or 0)
    if found:
        names = ", ".join(name for name, _ in found)
        raise InputError(
            f"several inputs could be corrupted and occluded ({names})",
            where="proofs.input",
            do="name one of them",
        )
    shapes = ", ".join(f"{n}: {v.dtype} {v.shape[1:]} a sample" for n, v in looked_at.items())
    wanted = "; ".join(f"{kind} are {_TAKEN[kind]}" for kind in asked)
    if strict:
        wanted = wanted.replace("features are floats", "features are 2-D floats")
    raise InputError(
        f"no input is of a kind that can be corrupted and occluded ({shapes}): {wanted}",
        where="proofs.kind",
        do="name the kind, or turn proofs.robustness and proofs.explanation off",
    )


def _fits(name: str, values: Array, kind: InputKind, strict: bool, alone: bool) -> bool:
    is_float = np.issubdtype(values.dtype, np.floating)
    if kind == "images":
        return values.ndim == 4 and (is_float or values.dtype == np.uint8)
    if kind == "features":
        return is_float and (values.ndim == 2 if strict else values.ndim >= 2)
    whole = np.issubdtype(values.dtype, np.integer) and values.ndim == 2
    beside = name.rpartition(".")[2] in _BESIDE_TOKENS or bool(np.isin(values, (0, 1)).all())
    return whole and (alone or not beside)


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] in _CHANNELS and shape[1] not in _CHANNELS


def _mask_of(inputs: Arrays, tokens: str) -> str | None:
    """The mask of tokens: the input of that name beside them, of their shape."""
    for name, values in inputs.items():
        if name.rpartition(".")[2] == _MASK and values.shape == inputs[tokens].shape:
            return name
    return None
