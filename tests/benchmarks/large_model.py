"""Does a model of more than 2 GB go all the way? Export, int8, compile, load, predict.

    python tests/benchmarks/large_model.py

Takes some minutes, 16 GB of memory and 20 GB of disk. Random weights.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from compression import Maker  # noqa: E402
from prefect_hone.ray_workers.runtime_process import RuntimeProcess  # noqa: E402
from prefect_hone.tasks import steps  # noqa: E402

CANDIDATES = {
    "fp32@onnxruntime": ([], "onnxruntime_cpu"),
    "fp32@openvino": ([], "openvino_cpu"),
    "weight-int8@onnxruntime": (
        [{"kind": "quantize", "scheme": "weight-int8"}], "onnxruntime_cpu",
    ),
    "int8@onnxruntime": (
        [{"kind": "quantize", "scheme": "static-int8", "samples": 8}], "onnxruntime_cpu",
    ),
}  # fmt: skip


def candidate(name: str) -> tuple[np.ndarray, int, int, float]:
    """Its outputs, bytes, files, and the seconds that it took."""
    passes, target = CANDIDATES[name]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        maker = Maker(Path(place), "bench_models:large", "bench_models:few_tokens")
        artifact = maker.candidate(name, [], passes, target)
        folder = maker.bench.store.fetch(artifact)
        loader = steps.loader(target.replace("_", "-"))
        with RuntimeProcess(loader, folder, {"threads": 1}) as runtime:
            runtime.wait_loaded()
            outputs = runtime.predict({"input": maker.samples["input"][:2]})
    return outputs, artifact.bytes, len(artifact.files), time.perf_counter() - started


def main() -> None:
    expected = None
    for name in CANDIDATES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found, size, files, seconds = pool.apply(candidate, (name,))
        expected = found if expected is None else expected
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        print(f"{name:26} {size / 1e9:5.2f} GB in {files} files, relative error {error:.1e}, "
              f"{seconds:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
