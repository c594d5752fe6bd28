"""Whether there is an NVIDIA GPU, and the packages that a target needs for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def unavailable_cuda(package: str, provider: str | None = None) -> Any:
    """None if there is a GPU and the package that uses it.

    Args:
        package: The required package.
        provider: The required execution provider of ONNX Runtime.
    """
    from . import Unavailable

    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return Unavailable(
            reason="this machine has no NVIDIA GPU (no /dev/nvidia0)",
            do="run on a machine that has one",
            installable=False,
        )
    if importlib.util.find_spec(package) is None:
        return Unavailable(
            reason=f"{package} is not installed", do=f"pip install {package}", installable=True
        )
    if provider is not None:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            return Unavailable(
                reason=f"the installed onnxruntime has no {provider}",
                do="pip uninstall onnxruntime && pip install onnxruntime-gpu",
                installable=True,
            )
    if package == "torch":
        import torch

        if not torch.cuda.is_available():
            return Unavailable(
                reason=f"torch {torch.__version__} is built without CUDA, or its driver is missing",
                do="pip install torch from an index with CUDA builds",
                installable=True,
            )
    return None
