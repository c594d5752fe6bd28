"""A cache of a frozen teacher's outputs, for samples that recur.

The key is the bytes of a sample's inputs, so randomly augmented data misses the cache but never
gets a wrong answer. Each worker caches the samples that it has seen.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from ..data.calling import arrays, call_model, mapped

#: A full cache is dropped if its hit rate is below `_WORTHWHILE` after `_PATIENCE` times as many
#: requests as it has samples.
_WORTHWHILE, _PATIENCE = 0.05, 8


class TeacherOutputs:
    """Called with inputs, returns the teacher's main outputs.

    Args:
        teacher: In evaluation mode, so that a sample's outputs don't depend on its batch.
        limit: Size of the cache (bytes of outputs); 0: no cache.

    Attributes:
        asked: Samples that were requested.
        found: How many of them were in the cache.
    """

    def __init__(self, teacher: nn.Module, limit: int) -> None:
        self._teacher = teacher
        self._limit = limit
        self._held: dict[bytes, torch.Tensor] = {}
        self._bytes = 0
        self.asked = 0
        self.found = 0

    def __call__(self, inputs: Any) -> torch.Tensor:
        """Outputs (N, ...) for a batch of inputs (N, ...)."""
        with torch.no_grad():
            if not self._limit:
                return call_model(self._teacher, inputs)
            keys = _keys(inputs)
            missing = [i for i, key in enumerate(keys) if key not in self._held]
            self.asked += len(keys)
            self.found += len(keys) - len(missing)
            if len(missing) == len(keys):
                outputs = call_model(self._teacher, inputs)
                self._keep(keys, outputs)
                return outputs
            fresh = {}
            if missing:
                outputs = call_model(self._teacher, _rows(inputs, missing))
                chosen = [keys[i] for i in missing]
                self._keep(chosen, outputs)
                fresh = dict(zip(chosen, outputs, strict=True))
            return torch.stack([fresh[k] if k in fresh else self._held[k] for k in keys])

    def _keep(self, keys: list[bytes], outputs: torch.Tensor) -> None:
        each = outputs[0].numel() * outputs.element_size()
        for key, output in zip(keys, outputs, strict=True):
            if self._bytes + each > self._limit:
                long = self.asked > _PATIENCE * len(self._held)
                if long and self.found < _WORTHWHILE * self.asked:
                    self._limit, self._bytes = 0, 0
                    self._held.clear()
                return
            if key not in self._held:
                self._held[key] = output.clone()
                self._bytes += each


def _keys(inputs: Any) -> list[bytes]:
    """A digest of each sample's inputs."""
    columns = [value for _, value in sorted(arrays(inputs).items())]
    found = []
    for index in range(len(columns[0])):
        digest = hashlib.blake2b(digest_size=16)
        for column in columns:
            digest.update(column[index].tobytes())
        found.append(digest.digest())
    return found


def _rows(inputs: Any, chosen: list[int]) -> Any:
    return mapped(inputs, lambda value: value[chosen])
