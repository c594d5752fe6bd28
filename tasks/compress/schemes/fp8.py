"""fp8: weights and activations of convolutions and matrix products in E4M3.

Micikevicius et al., "FP8 formats for deep learning", https://arxiv.org/abs/2209.05433. The scale of
a tensor is its largest magnitude in calibration over the format's largest number. TensorRT reads
it as QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import PRECISION, set_property
from ....recipe.passes import Fp8
from .job import HEAVY, QuantizeJob, masking_nodes
from .ranges import reader

_LARGEST = 448.0  # of E4M3


def fp8(job: QuantizeJob, spec: Fp8) -> Any:
    """The graph with float8 around each input of its convolutions and matrix products."""
    import onnx

    prepared = job.prepared()
    graph = onnx.load(str(prepared))
    left = {*job.skipped, *masking_nodes(graph)}
    nodes = [n for n in graph.graph.node if n.op_type in HEAVY and n.name not in left]
    constants = {item.name: item for item in graph.graph.initializer}
    seen = _magnitudes(job, (name for node in nodes for name in node.input[:2]), constants)
    rounding = _Rounding(graph, constants)
    for node in nodes:
        for position, name in enumerate(node.input[:2]):
            node.input[position] = rounding.of(name, seen.get(name, 0.0))
    rounding.finish()
    set_property(graph, PRECISION, "fp8")
    return graph


def _magnitudes(
    job: QuantizeJob, names: Iterable[str], constants: dict[str, Any]
) -> dict[str, float]:
    """Largest magnitude of activations on the calibration inputs."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        str(job.prepared()),
        list(HEAVY),
        augmented_model_path=str(job.scratch / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
        use_external_data_format=job.large,
    )
    calibrator.collect_data(reader(job.inputs))
    ranges = calibrator.compute_data().items()
    wanted = {name for name in names if name not in constants}
    return {
        name: max(abs(float(np.min(low))), abs(float(np.max(high))))
        for name, (low, high) in ((n, value.range_value) for n, value in ranges)
        if name in wanted
    }


class _Rounding:
    """Adds the nodes that round a value to float8, once per value."""

    def __init__(self, graph: Any, constants: dict[str, Any]) -> None:
        self._graph = graph
        self._constants = constants
        self._made: dict[str, list[Any]] = {}

    def of(self, name: str, magnitude: float) -> str:
        """The name of the rounded value.

        Args:
            name: A constant, or an activation.
            magnitude: The largest of an activation.
        """
        import onnx
        from onnx import numpy_helper

        rounded = f"{name}_fp8_plain"
        if name in self._made:
            return rounded
        float8 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT8E4M3FN)
        constant = self._constants.get(name)
        if constant is not None:
            weight = numpy_helper.to_array(constant).astype(np.float32)
            magnitude = float(np.abs(weight).max())
        scale = np.float32(max(magnitude, 1e-12) / _LARGEST)
        added = self._graph.graph.initializer
        added.append(numpy_helper.from_array(np.array(scale), f"{name}_fp8_scale"))
        added.append(numpy_helper.from_array(np.zeros((), float8), f"{name}_fp8_zero"))
        factors = [f"{name}_fp8_scale", f"{name}_fp8_zero"]
        make = onnx.helper.make_node
        nodes = []
        if constant is not None:
            kept = np.clip(weight / scale, -_LARGEST, _LARGEST).astype(float8)
            added.append(numpy_helper.from_array(kept, f"{name}_fp8"))
        else:
            nodes.append(make("QuantizeLinear", [name, *factors], [f"{name}_fp8"],
                              name=f"{name}_fp8_quantize"))  # fmt: skip
        nodes.append(make("DequantizeLinear", [f"{name}_fp8", *factors], [rounded],
                          name=f"{name}_fp8_dequantize"))  # fmt: skip
        self._made[name] = nodes
        return rounded

    def finish(self) -> None:
        """Insert the nodes after their inputs, and remove unused constants."""
        graph = self._graph.graph
        ordered = [node for name, nodes in self._made.items() if name in self._constants
                   or any(name == item.name for item in graph.input) for node in nodes]  # fmt: skip
        for node in graph.node:
            ordered.append(node)
            for output in node.output:
                ordered += self._made.get(output, [])
        del graph.node[:]
        graph.node.extend(ordered)
        used = {name for node in graph.node for name in node.input}
        for name in self._made:
            if name in self._constants and name not in used:
                graph.initializer.remove(self._constants[name])
