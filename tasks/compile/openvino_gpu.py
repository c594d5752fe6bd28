"""openvino-gpu: OpenVINO on an Intel GPU. Never run on one yet."""

from __future__ import annotations

from ...ray_workers.workspace import Result, Workspace
from ...recipe.targets import OpenVinoGpu
from ...runtimes.openvino_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._openvino import convert, no_device


def availability(_target: OpenVinoGpu) -> Unavailable | None:
    """None if OpenVINO sees the device."""
    return no_device("GPU")


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: OpenVINO can't convert the graph.
    """
    assert isinstance(work.spec.target, OpenVinoGpu)  # noqa: S101 (narrows a type)
    return convert(work, work.spec.target, "GPU")
