"""The work of the digits recipe as a careful person does it by hand, without Hone's flow: the
same loop under torchrun, the same export, quantization, compilation, validation and timing, in one
script and one process. Nothing is cached, tracked, isolated or promoted.

    python tests/benchmarks/by_hand.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.recipe.examples.digits.digits_data import digits
from prefect_hone.recipe.examples.digits.digits_model import small_resnet
from safetensors.torch import load_model


def train(folder: Path) -> torch.nn.Module:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "prefect_hone.ray_workers.training", "digits", str(folder / "ck")]  # fmt: skip
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    kept = Checkpoints(str(folder / "ck"), higher_is_better=True)
    best = kept.best()
    assert best is not None
    kept.export(best, folder)
    model = small_resnet()
    load_model(model, str(folder / "model.safetensors"))
    return model.eval()


class Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter([{"input": images[i : i + 32]} for i in range(0, len(images), 32)])

    def get_next(self):
        return next(self._batches, None)


def make_graphs(model: torch.nn.Module, calibration: np.ndarray, folder: Path) -> dict[str, Path]:
    program = torch.onnx.export(
        model, (torch.from_numpy(calibration[:2]),), dynamo=True, verbose=False,
        input_names=["input"], output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    program.save(str(folder / "fp32.onnx"))
    quant_pre_process(str(folder / "fp32.onnx"), str(folder / "prepared.onnx"))
    for name, method in (("int8", "MinMax"), ("int8-clipped", "Percentile")):
        quantize_static(
            str(folder / "prepared.onnx"), str(folder / f"{name}.onnx"), Reader(calibration),
            quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, method),
        )  # fmt: skip
    return {name: folder / f"{name}.onnx" for name in ("fp32", "int8", "int8-clipped")}


def runners(model: torch.nn.Module, graphs: dict[str, Path]) -> dict[str, object]:
    def eager(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    made: dict[str, object] = {"eager": eager}
    for name, path in graphs.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options)
        made[f"{name}@onnxruntime"] = lambda x, s=session: s.run(None, {"input": x})[0]
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(str(path)), "CPU",
            {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"},
        )  # fmt: skip
        openvino.save_model(core.read_model(str(path)), str(path.with_suffix(".xml")))
        request = compiled.create_infer_request()
        made[f"{name}@openvino"] = lambda x, r=request: r.infer({"input": x})[0].copy()
    return made


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    model = train(folder)
    print(f"train {time.perf_counter() - started:.1f} s")
    data = digits()
    train_images = np.stack([data.train[i][0].numpy() for i in range(256)])
    test_images = np.stack([data.test[i][0].numpy() for i in range(len(data.test))])
    labels = np.array([int(data.test[i][1]) for i in range(len(data.test))])
    for name, run in runners(model, make_graphs(model, train_images, folder)).items():
        accuracy = (run(test_images).argmax(1) == labels).mean()
        for size in (1, 32):
            batch, durations = test_images[:size].copy(), []
            end = time.perf_counter() + 1
            while time.perf_counter() < end:
                before = time.perf_counter()
                run(batch)
                durations.append(time.perf_counter() - before)
            print(f"{name:24} batch {size:2} {np.median(durations) * 1e3:8.3f} ms  {accuracy:.4f}")
    print(f"all {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
