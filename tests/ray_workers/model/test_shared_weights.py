"""A layer that is called several times has its weights once, however the exporter folded them."""

from __future__ import annotations

import numpy as np
import onnx
from made_graphs import GraphMaker, onnxruntime_outputs, samples
from prefect_hone.ray_workers.model.shared_weights import share_weights


def test_equal_weights_of_matrix_products_and_recurrent_layers_are_one() -> None:
    maker = GraphMaker(6, 8)
    random = np.random.default_rng(0)
    matrix, other = (random.normal(size=(8, 8)).astype(np.float32) for _ in range(2))
    gates = [random.normal(size=(1, *size)).astype(np.float32) for size in ((24, 8), (24, 8))]
    for call in range(3):
        maker.node("MatMul", maker.constant(matrix, f"folded_{call}"))
        maker.node("MatMul", maker.constant(other, f"other_{call}"))
        maker.node("Transpose", perm=[1, 0, 2])
        maker.node("GRU", *(maker.constant(g, f"{n}_{call}") for g, n in zip(gates, "wr", strict=True)),
                   hidden_size=8, linear_before_reset=1)  # fmt: skip
        maker.node("Squeeze", maker.constant([1], "axis", "int64"))
        maker.node("Transpose", perm=[1, 0, 2])
        maker.node("Add", maker.constant(matrix[:6], f"added_{call}"))
    graph, inputs = maker.model(6, 8), samples(6, 8, count=4)
    expected = onnxruntime_outputs(graph, inputs)
    share_weights(graph)
    onnx.checker.check_model(graph)
    names = sorted(item.name for item in graph.graph.initializer)
    assert names == ["added_0", "added_1", "added_2", "axis", "folded_0", "other_0", "r_0", "w_0"]
    assert np.array_equal(onnxruntime_outputs(graph, inputs), expected)
