"""Passes: one on the graph, one on the torch module."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper
from prefect_hone import Result, StepFailed, Workspace
from prefect_hone.ray_workers.model.onnx_files import read_graph, write_graph
from prefect_hone.tasks.compress.training_pass import PassContext
from torch import nn


def rounded(work: Workspace, digits: int = 3) -> Result:
    """Weights of the graph, rounded to some decimal digits."""
    if digits < 1:
        raise StepFailed(f"{digits} digits leave nothing", where="rounded.digits")
    graph = read_graph(work.inputs["graph"])
    largest = 0.0
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            near = values.round(digits)
            largest = max(largest, float(np.abs(near - values).max(initial=0)))
            weight.CopyFrom(numpy_helper.from_array(near, weight.name))
    write_graph(graph, work.output("graph", "onnx"))
    return Result(params={"rounded/digits": digits}, metrics={"rounded/largest": largest})


def clipped(work: Workspace, limit: float = 0.1) -> Result:
    """Weights of linear layers, clipped to a limit."""
    context = PassContext.load(work)
    layers = [m for m in context.model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise StepFailed("the model has no linear layer", where="clipped")
    for layer in layers:
        layer.weight.data.clamp_(-limit, limit)
    context.keep(context.model, context.operations)
    return Result(params={"clipped/layers": len(layers)})


def forgets(work: Workspace) -> Result:
    """Writes nothing."""
    return Result()


def breaks(work: Workspace) -> Result:
    raise KeyError("no such layer")
