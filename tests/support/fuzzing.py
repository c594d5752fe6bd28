"""How long tests in files called `test_fuzz_*.py` look: briefly, or as long as the benchmark asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings

_ASKED = os.environ.get("HONE_FUZZ_EXAMPLES")
_SEED = os.environ.get("HONE_FUZZ_SEED")
_SETTINGS = settings(
    max_examples=int(_ASKED or 60),
    deadline=None,
    database=None,
    derandomize=_ASKED is None,
    suppress_health_check=list(HealthCheck),
)


def fuzzed(test: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a property. In the tests it sees the same few examples each time."""
    chosen: Callable[..., Any] = _SETTINGS(test)
    return seed(int(_SEED))(chosen) if _SEED else chosen
