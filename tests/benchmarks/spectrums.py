"""How much faster ONNX Runtime computes Fourier transforms in Hone's form than by its own operators.

Spectrograms are convolutions there: one second of sound at 16 kHz. Transforms along an axis are
products: 32 rows of real numbers. One sample a call, one thread; both in turn, in one process.

    python tests/benchmarks/spectrums.py
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.spectrums import plain_spectrums
from prefect_hone.ray_workers.model.tracing import trace
from torch import nn

SIZES = (
    (128, 64), (256, 128), (400, 160), (512, 128), (1000, 250), (1024, 256), (2000, 500), (2048, 512)
)  # fmt: skip
ROUNDS, CALLS = 15, 10
LENGTHS = (64, 96, 128, 256, 336, 512, 720, 1000, 1024, 2000, 2048)


def transform(size: int, step: int) -> Any:
    constants = [
        numpy_helper.from_array(np.array(step, np.int64), "step"),
        numpy_helper.from_array(np.hanning(size).astype(np.float32), "window"),
        numpy_helper.from_array(np.array(size, np.int64), "size"),
    ]
    node = helper.make_node("STFT", ["wave", "step", "window", "size"], ["spectrum"], "stft")
    graph = helper.make_graph(
        [node],
        "stft",
        [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", "length", 1])],
        [helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


class Transform(nn.Module):
    """The spectrum of real numbers, as pairs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.fft.rfft(x))


def products(length: int) -> Any:
    """The transform as it is exported."""
    model = Transform().eval()
    return to_onnx(model, trace(model, {"input": np.zeros((2, 32, length), np.float32)}))


def operator(length: int) -> Any:
    """The transform by ONNX's operator."""
    constants = [numpy_helper.from_array(np.array(v, np.int64), n)
                 for n, v in (("last", [-1]), ("axis", 2))]  # fmt: skip
    nodes = [
        helper.make_node("Unsqueeze", ["input", "last"], ["real"]),
        helper.make_node("DFT", ["real", "", "axis"], ["output"], onesided=1),
    ]
    shape = ["batch", 32, length]
    graph = helper.make_graph(
        nodes,
        "dft",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def seconds(of: onnxruntime.InferenceSession, values: Any) -> float:
    name = of.get_inputs()[0].name
    started = time.perf_counter()
    for _ in range(CALLS):
        of.run(None, {name: values})
    return (time.perf_counter() - started) / CALLS


def compared(of: Any, with_: Any, values: Any) -> str:
    """Milliseconds of both, and how much faster the second is."""
    one, other = session(of), session(with_)
    pairs = [(seconds(one, values), seconds(other, values)) for _ in range(ROUNDS)][2:]
    own, made = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    middle = statistics.median(ratios)
    return f"{own:15.3f} {made:15.3f}   {middle:.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"


def main() -> None:
    generator = np.random.default_rng(0)
    wave = generator.normal(size=(1, 16000, 1)).astype(np.float32)
    print("window  step   operator (ms)   product (ms)   ratio, median [lowest, highest]")
    for size, step in SIZES:
        plain = transform(size, step)
        changed = transform(size, step)
        plain_spectrums(changed.graph)
        print(f"{size:6} {step:5} {compared(plain, changed, wave)}")
    for length in LENGTHS:
        rows = generator.normal(size=(1, 32, length)).astype(np.float32)
        print(f"{length:6}   all {compared(operator(length), products(length), rows)}")


if __name__ == "__main__":
    main()
