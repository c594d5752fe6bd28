"""openvino-gpu: OpenVINO on an Intel GPU. Never run on one yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoGpu
from . import Unavailable
from ._openvino import SETTINGS, convert, no_device, runner


def availability(_target: OpenVinoGpu) -> Unavailable | None:
    """None if OpenVINO sees the device."""
    return no_device("GPU")


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph.
    """
    return convert(work, OpenVinoGpu.model_validate(work.spec["target"]))


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A runner."""
    target = OpenVinoGpu.model_validate_json((folder / SETTINGS).read_text())
    return runner(folder, options, "GPU", target)
