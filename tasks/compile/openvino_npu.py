"""openvino-npu: OpenVINO on an Intel NPU. Never run on one yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoNpu
from ...runtimes.openvino_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._openvino import convert, no_device


def availability(_target: OpenVinoNpu) -> Unavailable | None:
    """None if OpenVINO sees the device."""
    return no_device("NPU")


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph.
    """
    assert isinstance(work.spec.target, OpenVinoNpu)  # noqa: S101 (narrows a type)
    return convert(work, work.spec.target, "NPU")
