"""What a runtime gives: a function of arrays by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
#: From inputs (N, ...) by name to the main output (N, ...).
Predict = Callable[[Arrays], Array]
#: What opens an artifact: its folder, and options of the caller (`threads`), plain data.
Load = Callable[[Path, dict[str, Any]], Predict]
