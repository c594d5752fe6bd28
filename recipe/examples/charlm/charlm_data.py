"""English text that every CPython has: the reference of the `help()` command, 465 kB.

A sample is a piece of the text and the same piece shifted by one character.
"""

from __future__ import annotations

import math
from collections import Counter
from pydoc_data import topics

import torch
from prefect_hone import Data
from torch.utils.data import Dataset

#: Known characters; the last one stands for all others.
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 126)) + "\0"


def text() -> str:
    """The whole text, in a stable order."""
    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


def encode(characters: str) -> torch.Tensor:
    """Numbers (int64) of characters."""
    known = {character: index for index, character in enumerate(ALPHABET)}
    other = len(ALPHABET) - 1
    return torch.tensor([known.get(character, other) for character in characters])


def decode(numbers: torch.Tensor) -> str:
    """Characters of numbers (T,)."""
    return "".join(ALPHABET[int(number)] for number in numbers)


class Pieces(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pieces of `length` characters (T,), each with the characters that follow (T,)."""

    def __init__(self, characters: torch.Tensor, length: int) -> None:
        self.characters = characters
        self.length = length

    def __len__(self) -> int:
        return (len(self.characters) - 1) // self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.length
        piece = self.characters[start : start + self.length + 1]
        return piece[:-1], piece[1:]


def charlm_data(length: int = 64, characters: int | None = None) -> Data:
    """The factory that the recipe names.

    Args:
        length: Characters of a sample.
        characters: Use only this many from the beginning; None: all.
    """
    numbers = encode(text())[:characters]
    first, second = int(len(numbers) * 0.85), int(len(numbers) * 0.9)
    return Data(
        train=Pieces(numbers[:first], length),
        validation=Pieces(numbers[first:second], length),
        test=Pieces(numbers[second:], length),
        name="pydoc-topics",
        text=decode,
    )


def trigram_bits(length: int = 64, characters: int | None = None) -> float:
    """Bits per character of a 3-gram model on the test split, to compare with.

    Counts of the training split, interpolated with shorter contexts (Jelinek and Mercer, 1980);
    their weights are the best of a grid on the validation split.
    """
    numbers = encode(text())[:characters].tolist()
    first, second = int(len(numbers) * 0.85), int(len(numbers) * 0.9)
    train, validation, test = numbers[:first], numbers[first:second], numbers[second:]
    counts = [Counter(zip(*(train[i:] for i in range(n)), strict=False)) for n in (1, 2, 3)]
    before = [Counter(zip(*(train[i:-1] for i in range(n)), strict=False)) for n in (1, 2)]

    def bits(part: list[int], weights: tuple[float, float, float]) -> float:
        total = 0.0
        for a, b, c in zip(part, part[1:], part[2:], strict=False):
            one = (counts[0][(c,)] + 0.01) / (len(train) + 0.01 * len(ALPHABET))
            two = counts[1][(b, c)] / before[0][(b,)] if before[0][(b,)] else one
            three = counts[2][(a, b, c)] / before[1][(a, b)] if before[1][(a, b)] else two
            total -= math.log2(weights[0] * one + weights[1] * two + weights[2] * three)
        return total / (len(part) - 2)

    grid = [(a, b, 1 - a - b) for a in (0.02, 0.05, 0.1) for b in (0.1, 0.2, 0.3, 0.4)]
    return bits(test, min(grid, key=lambda weights: bits(validation, weights)))
