"""Mixtures of experts of transformers, in a form that can be exported.

transformers multiplies by the experts' weights in an operator of its own, which has no ONNX form;
its other form gathers the weights of each token's experts and has the same results
(https://huggingface.co/docs/transformers/experts_interface).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_EXPORTABLE = "batched_mm"


@contextlib.contextmanager
def exportable_experts(model: torch.nn.Module) -> Iterator[None]:
    """A context in which experts are computed by batched matrix products."""
    changed: list[tuple[Any, Any]] = []
    for module in model.modules():
        if not hasattr(module, "set_experts_implementation"):
            continue
        before = module.get_experts_implementation()
        try:
            module.set_experts_implementation(_EXPORTABLE)
        except (ValueError, RuntimeError):  # it stays, and the export says what it can't take
            continue
        changed.append((module, before))
        break  # it applies to all that is within
    try:
        yield
    finally:
        for module, before in changed:
            module.set_experts_implementation(before)
