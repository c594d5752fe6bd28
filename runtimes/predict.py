"""What a runtime gives: a function of arrays by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
#: From inputs (N, ...) by name to the main output (N, ...).
Predict = Callable[[Arrays], Array]


class AllowedCode(TypedDict):
    """Code of the user's that may be imported: packages, and modules of the `code` folder."""

    prefixes: list[str]
    modules: list[str]


class LoadOptions(TypedDict, total=False):
    """What opens an artifact is told, as JSON.

    Attributes:
        threads: Threads of the runtime (a count).
        code: Folder of the user's modules, or None.
        allowed: What of the user's code may be imported.
        factory: Import path of what opens it, for a target of the user's.
        model: The recipe's model, for the baseline.
    """

    threads: int
    code: str | None
    allowed: AllowedCode
    factory: str
    model: dict[str, object]


#: What opens an artifact: its folder, and options of the caller.
Load = Callable[[Path, LoadOptions], Predict]
