"""Small ONNX graphs made by hand, and the passes on graphs that are tried on them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.ray_workers.dispatch import Done, StepJob, execute
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.recipe.factories import Allowed
from prefect_hone.runtimes import onnxruntime_runtime, openvino_runtime
from prefect_hone.runtimes.openvino_runtime import core
from safetensors.numpy import save_file

Array = np.ndarray[Any, Any]


class GraphMaker:
    """Adds nodes with random weights one after the other; `model` makes the graph of them.

    Args:
        shape: Of the input, without its batch.
        seed: Of the weights.
    """

    def __init__(self, *shape: int | str, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.functions: list[Any] = []
        self.last = "input"

    def constant(self, value: Any, name: str = "", dtype: Any = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        if all(item.name != name for item in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int, name: str = "") -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(
            (self._random.normal(size=shape) / fan_in**0.5).astype(np.float32), name
        )

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node that reads the last value and `inputs`; returns its output."""
        output = f"value_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                kind, [self.last, *inputs], [output], name or f"{kind}_{len(self.nodes)}",
                **attributes,
            )
        )  # fmt: skip
        self.last = output
        return output

    def linear(self, wide: int, narrow: int, name: str = "") -> str:
        weight = self.weight(narrow, wide, name=f"{name}.weight" if name else "")
        bias = self.weight(narrow, name=f"{name}.bias" if name else "")
        return self.node("Gemm", weight, bias, transB=1)

    def convolution(self, wide: int, narrow: int, name: str = "", **attributes: Any) -> str:
        kernel = attributes.pop("kernel", 3)
        weight = self.weight(narrow, wide, kernel, kernel, name=f"{name}.weight" if name else "")
        bias = self.weight(narrow, name=f"{name}.bias" if name else "")
        return self.node("Conv", weight, bias, pads=[kernel // 2] * 4, **attributes)

    def model(self, *output: int | str, opset: int = 20, ir_version: int = 10) -> Any:
        self.nodes[-1].output[0] = "output"
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "made",
            [value("input", TensorProto.FLOAT, ["batch", *self.shape])],
            [value("output", TensorProto.FLOAT, ["batch", *output])], self.constants,
        )  # fmt: skip
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
        )


def samples(*shape: int, count: int = 32, seed: int = 1) -> Array:
    """Normal numbers, (count, *shape)."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


class GraphBench:
    """Runs passes on graphs as a worker would."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(str(folder / "store"), folder / "cache")

    def put(self, graph: Any, inputs: Array) -> dict[str, Artifact]:
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(graph, str(Path(folder) / "model.onnx"))
            kept = self.store.put(Path(folder), "onnx")
        with tempfile.TemporaryDirectory() as folder:
            save_file({"input": inputs}, str(Path(folder) / "samples.safetensors"))
            return {"graph": kept, "calibration": self.store.put(Path(folder), "samples")}

    def quantize(self, graph: Any, inputs: Array, **fields: Any) -> tuple[Any, Done]:
        """The graph after a quantization, and what its step said."""
        return self.apply("quantize", graph, inputs, **fields)

    def apply(self, kind: str, graph: Any, inputs: Array, **fields: Any) -> tuple[Any, Done]:
        job = StepJob(
            function=f"prefect_hone.tasks.compress.{kind}:apply", key="k", lineage="k",
            spec={"compression": {"kind": kind, **fields}}, inputs=self.put(graph, inputs),
            code=None, allowed=Allowed(), store=self.store.url, cache=str(self.store.cache),
        )  # fmt: skip
        done = execute(job, lambda _: None)
        made = self.store.fetch(done.outputs["graph"]) / "model.onnx"
        return onnx.load(str(made)), done

    def compile(self, target: str, graph: Any) -> Path:
        """What the compile step makes of a graph for a target."""
        job = StepJob(
            function=f"prefect_hone.tasks.compile.{target.replace('-', '_')}:compile_graph",
            key="k", lineage="k", spec={"target": {"kind": target}},
            inputs={"graph": self.put(graph, np.zeros((1, 1), np.float32))["graph"]},
            code=None, allowed=Allowed(), store=self.store.url, cache=str(self.store.cache),
        )  # fmt: skip
        return self.store.fetch(execute(job, lambda _: None).outputs["model"])

    def served(self, target: str, graph: Any, inputs: Array) -> Array:
        """Outputs of a compiled graph, as a target's runtime computes them."""
        load = {"onnxruntime-cpu": onnxruntime_runtime.load, "openvino-cpu": openvino_runtime.load}
        predict = load[target](self.compile(target, graph), {"threads": 1})
        return np.asarray(predict({"input": inputs}))


def onnxruntime_outputs(graph: Any, inputs: Array) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    found: Array = session.run(["output"], {"input": inputs})[0]
    return found


def openvino_outputs(graph: Any, inputs: Array) -> Array:
    program = core().compile_model(
        core().read_model(graph.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found: Array = program({"input": inputs})[program.output("output")]
    return found


#: Outputs of a graph by each runtime's name.
RUNTIMES = {"onnxruntime": onnxruntime_outputs, "openvino": openvino_outputs}


def decibels(graph: Any, compressed: Any, inputs: Array) -> dict[str, float]:
    """SQNR (dB) of a compressed graph to ONNX Runtime's outputs of the original, by runtime."""
    expected = onnxruntime_outputs(graph, inputs)
    return {name: sqnr_db(expected, run(compressed, inputs)) for name, run in RUNTIMES.items()}
