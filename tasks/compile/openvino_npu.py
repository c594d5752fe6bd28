"""openvino-npu: OpenVINO on an Intel NPU. Never run on one yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoNpu
from ...runtimes.openvino_runtime import load as load
from . import Unavailable
from ._openvino import convert, no_device


def availability(_target: OpenVinoNpu) -> Unavailable | None:
    """None if OpenVINO sees the device."""
    return no_device("NPU")


def compile_graph(work: Workspace) -> Result:
    """Spec: target. Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph.
    """
    return convert(work, OpenVinoNpu.model_validate(work.spec["target"]), "NPU")
