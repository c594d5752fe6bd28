"""Graphs as functions: what a quantization scheme judges its result by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import batch_arrays, is_large, write_graph
from ....ray_workers.model.onnx_files import outputs_of as named_outputs_of
from ....ray_workers.model.openvino_form import for_openvino
from ....ray_workers.scratch import scratch_folder
from ....ray_workers.store.file_names import GRAPH
from ....runtimes.openvino_runtime import core
from ....runtimes.predict import Arrays, Outputs, Predict, as_outputs, main_of, names_in_graph

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
    run = predictor_of(graph, runtime)
    return lambda inputs: main_of(run(inputs))


def predictor_of(graph: Any, runtime: str = "onnxruntime") -> Predict:
    """A function from inputs by name to all outputs.

    Args:
        graph: The graph.
        runtime: `onnxruntime` or `openvino`.
    """
    names = named_outputs_of(graph)
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
        return opened(source, names)


def _onnxruntime(source: str | bytes, names: Sequence[str]) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    wanted = names_in_graph(names, {item.name for item in session.get_inputs()})

    def run(inputs: Arrays) -> Outputs:
        return as_outputs(session.run(wanted, inputs), names)

    return run


def _openvino(source: str | bytes, names: Sequence[str]) -> Predict:
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    program = core().compile_model(core().read_model(source), "CPU", hints)
    request = program.create_infer_request()
    takes = {name for port in program.inputs for name in port.get_names()}
    wanted = [program.output(name) for name in names_in_graph(names, takes)]

    def run(inputs: Arrays) -> Outputs:
        found = request.infer(inputs)
        return as_outputs([np.array(found[output]) for output in wanted], names)

    return run
