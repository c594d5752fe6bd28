"""Ranges of activations on calibration data.

minmax: all values. percentile: the given share of them. entropy: the range that loses the least
information (Migacz, "8-bit inference with TensorRT", 2017). mse: the range with the smallest
squared rounding error (Choukroun et al., https://arxiv.org/abs/1902.06822).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....ray_workers.model.onnx_files import Arrays, batch_arrays
from ....recipe.passes import StaticInt8

BATCH = 32
_BINS, _LEVELS = 2048, 256


def save_ranges(prepared: Path, inputs: Arrays, spec: StaticInt8, target: Path) -> None:
    """Write the range of each tensor in the form of ONNX Runtime's calibration cache.

    ONNX Runtime's own entropy method has as many bins as levels, so it always returns the whole
    range; this one has 2048 bins.
    """
    from onnxruntime.quantization.calibrate import (
        CalibrationMethod,
        EntropyCalibrater,
        TensorData,
        TensorsData,
        save_tensors_data,
    )

    collected = EntropyCalibrater(
        str(prepared),
        augmented_model_path=str(target.with_suffix(".augmented.onnx")),
        num_bins=_BINS,
        num_quantized_bins=128,
        symmetric=spec.symmetric,
    )
    collected.augment_graph()
    collected.create_inference_session()
    collected.collect_data(_Reader(inputs))
    found: dict[str, tuple[Any, Any]] = {}
    if spec.calibration == "entropy":
        for name, value in collected.compute_data().items():
            found[name] = value.range_value
    else:
        for name, (counts, edges, low, high, _) in collected.collector.histogram_dict.items():
            found[name] = smallest_error(counts, edges, low, high, spec.symmetric)
    tensors = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in found.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, tensors), target)


def smallest_error(
    counts: Any, edges: Any, low: Any, high: Any, symmetric: bool
) -> tuple[float, float]:
    """The range, of a hundred narrower ones, whose rounding has the smallest squared error.

    Args:
        counts: Of the histogram, (bins,).
        edges: Of its bins, (bins + 1,).
        low: Smallest value seen.
        high: Largest.
        symmetric: Whether the range must be.
    """
    middle = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    bottom, top = min(float(low), 0.0), max(float(high), 0.0)
    if symmetric:
        top = max(top, -bottom)
        bottom = -top
    best, least = (bottom, top), np.inf
    for share in np.linspace(0.2, 1.0, 100):
        a, b = bottom * share, top * share
        scale = (b - a) / (_LEVELS - 1)
        if scale <= 0:
            continue
        rounded = np.clip(np.round((middle - a) / scale), 0, _LEVELS - 1) * scale + a
        error = float((counts * (middle - rounded) ** 2).sum())
        if error < least:
            best, least = (a, b), error
    return best


class _Reader:
    def __init__(self, inputs: Arrays) -> None:
        found = batch_arrays(inputs, BATCH)
        if len(found) > 1 and len(_first(found[-1])) < BATCH:
            found.pop()  # histograms are collected over batches of one size
        self._batches = iter(found)

    def get_next(self) -> Any:
        return next(self._batches, None)

    def __len__(self) -> int:
        return 0

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError


def _first(batch: Arrays) -> Any:
    return next(iter(batch.values()))


def reader(inputs: Arrays) -> Any:
    """Calibration batches in ONNX Runtime's form."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(_Reader, CalibrationDataReader):  # type: ignore[misc]
        pass

    return Reader(inputs)
