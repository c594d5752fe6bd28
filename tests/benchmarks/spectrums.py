"""How much faster ONNX Runtime computes spectrograms as convolutions than by its own operator.

One second of sound at 16 kHz, one sample a call, one thread; both in turn, in one process.

    python tests/benchmarks/spectrums.py
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from prefect_hone.ray_workers.model.spectrums import plain_spectrums

SIZES = (
    (128, 64), (256, 128), (400, 160), (512, 128), (1000, 250), (1024, 256), (2000, 500), (2048, 512)
)  # fmt: skip
ROUNDS, CALLS = 15, 10


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


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def seconds(of: onnxruntime.InferenceSession, wave: Any) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        of.run(None, {"wave": wave})
    return (time.perf_counter() - started) / CALLS


def main() -> None:
    wave = np.random.default_rng(0).normal(size=(1, 16000, 1)).astype(np.float32)
    print("window  step   operator (ms)   convolution (ms)   ratio, median [lowest, highest]")
    for size, step in SIZES:
        model = transform(size, step)
        plain = session(model)
        plain_spectrums(model.graph)
        convolution = session(model)
        pairs = [(seconds(plain, wave), seconds(convolution, wave)) for _ in range(ROUNDS)][2:]
        own, made = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{size:6} {step:5} {own:15.3f} {made:18.3f}   "
            f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        )


if __name__ == "__main__":
    main()
