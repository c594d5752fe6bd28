"""What a runtime provides: a function of arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
#: The one output of a model, or its outputs by name, the main one first; each (N, ...).
Outputs = Array | Arrays
#: From inputs (N, ...) by name to outputs.
Predict = Callable[[Arrays], Outputs]


def main_of(outputs: Outputs) -> Array:
    """The output that was measured: the only one, or the first."""
    found = next(iter(outputs.values())) if isinstance(outputs, dict) else outputs
    return np.asarray(found)


def names_in_graph(outputs: Sequence[str], inputs: Collection[str]) -> list[str]:
    """What an ONNX graph calls the outputs, in which each value has a name of its own.

    Args:
        outputs: The model's names for them, the main one first; none if there is one output only.
        inputs: Names of the inputs.
    """
    found = ["output"]
    for name in outputs[1:]:
        while name in inputs or name in found:
            name = f"{name}_output"
        found.append(name)
    return found


def as_outputs(values: Sequence[Array], names: Sequence[str]) -> Outputs:
    """What a `Predict` returns.

    Args:
        values: The outputs, the main one first.
        names: Their names; none if there is one output only.
    """
    return dict(zip(names, values, strict=True)) if names else values[0]


class AllowedCode(TypedDict):
    """User code that may be imported: packages, import paths, modules of the `code` folder, and
    the digest by name of modules outside (`outside_code.py`).
    """

    prefixes: list[str]
    functions: list[str]
    modules: list[str]
    outside: NotRequired[dict[str, str] | None]


class LoadOptions(TypedDict, total=False):
    """Options for opening an artifact, as JSON.

    Attributes:
        threads: Threads of the runtime (a count).
        code: Folder of the user's modules, or None.
        allowed: Which user code may be imported.
        factory: Import path of the user's own target that opens it.
        model: The recipe's model, for the baseline.
    """

    threads: int
    code: str | None
    allowed: AllowedCode
    factory: str
    model: dict[str, object]


#: Opens an artifact, from its folder and the caller's options.
Load = Callable[[Path, LoadOptions], Predict]
