"""Graphs of matrix products and ReLU, computed by numpy. Opening one needs numpy only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def availability(target: Any) -> Any:
    return None


def compile_graph(work: Any, dtype: str = "float32") -> Any:
    """Input: `graph`. Output: `model`."""
    from onnx import numpy_helper
    from prefect_hone import Result, StepFailed
    from prefect_hone.ray_workers.model.onnx_files import read_graph

    graph = read_graph(work.inputs["graph"]).graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    layers: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type == "Gemm":
            flags = {a.name: a.i for a in node.attribute}
            weight = weights[node.input[1]]
            arrays[f"w{len(layers)}"] = (weight.T if flags.get("transB") else weight).astype(dtype)
            arrays[f"b{len(layers)}"] = weights[node.input[2]].astype(dtype)
        elif node.op_type != "Relu":
            raise StepFailed(f"numpy_mlp has no operator {node.op_type}", where=node.name)
        layers.append({"op": node.op_type})
    folder = work.output("model", "numpy-mlp")
    np.savez(folder / "weights.npz", **arrays)
    (folder / "layers.json").write_text(
        json.dumps({"layers": layers, "input": graph.input[0].name})
    )
    return Result(params={"compile/layers": len(layers)})


def load(folder: Path, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    said = json.loads((folder / "layers.json").read_text())
    weights = dict(np.load(folder / "weights.npz"))

    def predict(inputs: dict[str, Any]) -> Any:
        x = inputs[said["input"]]
        for number, layer in enumerate(said["layers"]):
            if layer["op"] == "Relu":
                x = np.maximum(x, 0)
            else:
                x = x @ weights[f"w{number}"] + weights[f"b{number}"]
        return x.astype(np.float32)

    return predict
