"""Graphs as functions: what a quantization scheme judges its result by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import Arrays, batch_arrays, is_large, write_graph
from ....ray_workers.model.openvino_form import for_openvino
from ....ray_workers.scratch import scratch_folder
from ....ray_workers.store.file_names import GRAPH
from ....runtimes.openvino_runtime import core

Array = np.ndarray[Any, Any]


def outputs_of(graph: Any, inputs: Arrays, size: int = 32, runtime: str = "onnxruntime") -> Array:
    """A graph's main output, computed by a runtime."""
    run = runner_of(graph, runtime)
    return np.concatenate([run(batch) for batch in batch_arrays(inputs, size)])


def runner_of(graph: Any, runtime: str = "onnxruntime") -> Callable[[Arrays], Array]:
    """A function from inputs by name to the main output.

    Args:
        graph: The graph.
        runtime: `onnxruntime` or `openvino`.
    """
    if runtime == "openvino":
        graph = copy.deepcopy(graph)
        for_openvino(graph)
    opened = {"onnxruntime": _onnxruntime, "openvino": _openvino}[runtime]
    with scratch_folder("graph") as folder:
        source: Any = str(Path(folder) / GRAPH)
        if is_large(graph):
            write_graph(copy.deepcopy(graph), Path(folder))  # which empties what it writes
        else:
            source = graph.SerializeToString()
        return opened(source)


def _onnxruntime(source: str | bytes) -> Callable[[Arrays], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(inputs: Arrays) -> Array:
        return np.asarray(session.run(["output"], inputs)[0])

    return run


def _openvino(source: str | bytes) -> Callable[[Arrays], Array]:
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    program = core().compile_model(core().read_model(source), "CPU", hints)
    request, output = program.create_infer_request(), program.output("output")

    def run(inputs: Arrays) -> Array:
        return np.array(request.infer(inputs)[output])

    return run
