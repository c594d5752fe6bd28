"""Whether a target's own environment can be had."""

from __future__ import annotations

import importlib.util
import platform
import sys

from ..environments import environment
from . import Unavailable


def unavailable_environment(name: str) -> Unavailable | None:
    """None if it is made, or can be."""
    if environment(name).is_made:
        return None
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return Unavailable(
            reason=f"its packages are for Linux, not {sys.platform} {platform.machine()}",
            do="run on Linux",
            installable=False,
        )
    if importlib.util.find_spec("ensurepip") is None:
        return Unavailable(
            reason="Python's venv is not complete here (no ensurepip)",
            do="apt-get install python3-venv",
            installable=True,
        )
    return None
