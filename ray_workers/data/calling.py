"""How a model is called with a batch, and which of its outputs is used.

A model takes one tensor, or a dictionary of them by name; runtimes take numpy arrays by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...recipe.errors import InputError

Arrays = dict[str, np.ndarray[Any, Any]]

#: Name of a model's input if it takes one tensor.
INPUT = "input"


def call_model(model: Any, inputs: Any) -> torch.Tensor:
    """The model's main output for a batch: see `main_output`."""
    return main_output(model(**inputs) if isinstance(inputs, dict) else model(inputs))


def main_output_name(names: Sequence[str]) -> str:
    """The main one of several outputs: `logits`, as transformers names it, or the first."""
    return "logits" if "logits" in names else names[0]


def main_output(outputs: Any) -> torch.Tensor:
    """The main output of a model that may return a tensor, a sequence or a mapping.

    Raises:
        InputError: There is no tensor in it.
    """
    if isinstance(outputs, torch.Tensor):
        return outputs
    if (isinstance(outputs, dict) or hasattr(outputs, "keys")) and (values := dict(outputs)):
        return main_output(values[main_output_name(list(values))])
    if isinstance(outputs, tuple | list) and outputs:
        return main_output(outputs[0])
    raise InputError(
        f"the model returned a {type(outputs).__name__}, expected a tensor, or a tuple or "
        "dictionary of tensors",
        where="model.factory",
    )


def move(inputs: Any, device: torch.device, without_waiting: bool = False) -> Any:
    """A batch's inputs on a device; without waiting, if they are in pinned memory."""
    if isinstance(inputs, dict):
        return {n: v.to(device, non_blocking=without_waiting) for n, v in inputs.items()}
    return inputs.to(device, non_blocking=without_waiting)


def arrays(inputs: Any) -> Arrays:
    """A batch's inputs as numpy arrays by name."""
    named = inputs if isinstance(inputs, dict) else {INPUT: inputs}
    return {str(name): torch.as_tensor(value).numpy() for name, value in named.items()}


def tensors(named: Arrays) -> Any:
    """The inverse of `arrays`."""
    made = {name: torch.from_numpy(value) for name, value in named.items()}
    return made[INPUT] if list(made) == [INPUT] else made
