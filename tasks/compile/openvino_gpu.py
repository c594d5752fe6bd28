"""openvino-gpu: OpenVINO on an Intel GPU. Never run on one yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoGpu
from ...runtimes.openvino_runtime import load as load
from . import Unavailable
from ._openvino import convert, no_device


def availability(_target: OpenVinoGpu) -> Unavailable | None:
    """None if OpenVINO sees the device."""
    return no_device("GPU")


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph.
    """
    return convert(work, OpenVinoGpu.model_validate(work.spec["target"]), "GPU")
