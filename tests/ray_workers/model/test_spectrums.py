"""Spectrograms are right on both runtimes, and computed by a convolution."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from made_graphs import GraphBench, onnxruntime_outputs
from prefect_hone.ray_workers.model.axes import Varying
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.spectrums import plain_spectrums
from prefect_hone.ray_workers.model.sqnr import sqnr_db
from prefect_hone.ray_workers.model.tracing import trace
from torch import nn


class Sounds(nn.Module):
    """A spectrogram, and a convolution over time and frequency."""

    def __init__(self, size: int, step: int, window: int, **options: Any) -> None:
        super().__init__()
        self.size, self.step, self.options = size, step, options
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(
            wave, self.size, self.step, len(self.window), self.window, return_complex=True,
            **self.options,
        ).abs()  # fmt: skip
        return self.last(torch.relu(self.first(torch.log1p(spectrum)[:, None])).mean((2, 3)))


def exported(model: nn.Module, waves: np.ndarray) -> Any:
    free = [Varying(input="input", axis=1, name="length", least=800, most=2000)]
    return to_onnx(model.eval(), trace(model.eval(), {"input": waves}, free))


@pytest.mark.parametrize(
    ("size", "step", "window", "options"),
    [
        (128, 64, 128, {}),
        (100, 40, 80, {"center": False}),
        (64, 16, 64, {"normalized": True}),
        (96, 32, 96, {"onesided": False}),
    ],
)
def test_a_spectrogram_of_any_length_is_right_on_both_runtimes(
    tmp_path: Path, size: int, step: int, window: int, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = Sounds(size, step, window, **options).eval()
    waves = torch.randn(4, 1000).numpy()
    graph, bench = exported(model, waves), GraphBench(tmp_path)
    for length in (1000, 1333):
        batch = torch.randn(2, length)
        expected = model(batch).detach().numpy()
        for target in ("onnxruntime-cpu", "openvino-cpu"):
            found = bench.served(target, copy.deepcopy(graph), batch.numpy())
            assert sqnr_db(expected, found) > 90, (target, length)


def test_it_is_a_convolution_unless_that_is_large_or_slower() -> None:
    graph = exported(Sounds(128, 64, 128).eval(), torch.randn(4, 1000).numpy())
    changed = copy.deepcopy(graph)
    assert plain_spectrums(changed.graph)
    onnx.checker.check_model(changed)
    assert "STFT" not in {node.op_type for node in changed.graph.node}
    waves = torch.randn(3, 900).numpy()
    same = sqnr_db(onnxruntime_outputs(graph, waves), onnxruntime_outputs(changed, waves))
    assert same > 90
    assert not plain_spectrums(changed.graph)
    fast = exported(Sounds(1024, 512, 1024).eval(), torch.randn(2, 2000).numpy())
    assert not plain_spectrums(fast.graph, slow_ones_only=True)
    assert plain_spectrums(fast.graph)
    large = exported(Sounds(8192, 4096, 8192).eval(), torch.randn(2, 9000).numpy())
    assert not plain_spectrums(large.graph)
