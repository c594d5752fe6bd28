"""Where TensorRT caches what it measured on this machine's GPU."""

from __future__ import annotations

from pathlib import Path

from .home import hone_home


def tensorrt_cache() -> Path:
    """A folder of this user."""
    folder = hone_home() / "cache" / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
