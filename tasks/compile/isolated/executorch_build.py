"""Lower a program with ExecuTorch. Runs in the target's isolated environment:

python -m prefect_hone.tasks.compile.isolated.executorch_build JOB.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ....runtimes.executorch_runtime import program_file


def main(job: dict[str, Any]) -> None:
    """Write a .pte file for each batch size."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    source, target = Path(job["program"]), Path(job["target"])
    model = torch.export.load(source / "program.pt2").module()
    with np.load(source / "calibration.npz") as columns:
        inputs = [torch.from_numpy(columns[name]) for name in columns.files]
    if job["quantize"] is not None:
        model = _quantized(model, inputs, job["quantize"])
    for size in job["batch_sizes"]:
        rows = torch.arange(size) % len(inputs[0])
        program = torch.export.export(model, tuple(column[rows] for column in inputs))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        (target / program_file(size)).write_bytes(lowered.to_executorch().buffer)
    said = {"compile/int8": job["quantize"] is not None}
    built = {"batch_sizes": job["batch_sizes"], "params": said}
    (source / "built.json").write_text(json.dumps(built))


def _quantized(model: Any, inputs: list[Any], step: dict[str, Any]) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=bool(step.get("per_channel", True)))
    prepared = prepare_pt2e(model, XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for start in range(0, len(inputs[0]), 32):
            prepared(*(column[start : start + 32] for column in inputs))
    return convert_pt2e(prepared)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
