"""The smallest architectures of the zoo compute the same in ONNX Runtime, for another batch size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import arrays, called, named_outputs, tensors
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.onnx_files import OUTPUT
from prefect_hone.ray_workers.model.tracing import trace

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "zoo_models"))
import zoo_models

PARITY = 1e-3


@pytest.mark.parametrize("name", sorted(zoo_models.BY_HAND))
def test_an_architecture_is_exported_with_all_its_outputs(name: str) -> None:
    import onnxruntime

    model, named = zoo_models.model(name), arrays(zoo_models.inputs(name))
    traced = trace(model, {key: value[:2] for key, value in named.items()})
    graph = to_onnx(model, traced)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    five = {key: value[:5] for key, value in named.items()}
    with torch.no_grad():
        expected = named_outputs(called(model, tensors(five)))
    assert {traced.main, *traced.outputs} == set(expected)
    for key, value in expected.items():
        (found,) = session.run([OUTPUT if key == traced.main else key], five)
        assert np.abs(found - value.numpy()).max() <= PARITY * max(1.0, float(value.abs().max()))
