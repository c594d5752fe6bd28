"""Where TensorRT caches what it measured on this machine's GPU."""

from __future__ import annotations

import os
from pathlib import Path


def tensorrt_cache() -> Path:
    """A folder of this user."""
    home = Path(os.environ.get("HONE_HOME") or "~/.hone").expanduser()
    folder = home / "cache" / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
