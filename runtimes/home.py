"""`HONE_HOME`, the user's own folder, as every process finds it."""

from __future__ import annotations

import os
from pathlib import Path


def hone_home() -> Path:
    """`HONE_HOME`, by default `~/.hone`."""
    return Path(os.environ.get("HONE_HOME") or "~/.hone").expanduser()
