"""Convert a program to LiteRT. Runs in the target's isolated environment:

python -m prefect_hone.tasks.compile.isolated.litert_build JOB.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ....runtimes.litert_runtime import program_file


def main(job: dict[str, Any]) -> None:
    """Write a .tflite file for each batch size."""
    import litert_torch
    import torch

    source, target = Path(job["program"]), Path(job["target"])
    model = torch.export.load(source / "program.pt2").module()
    with np.load(source / "calibration.npz") as columns:
        inputs = [torch.from_numpy(columns[name]) for name in columns.files]
    for size in job["batch_sizes"]:
        rows = torch.arange(size) % len(inputs[0])
        arguments = tuple(column[rows] for column in inputs)
        plain = source / f"plain-{size}.tflite"
        litert_torch.convert(_Module(model), arguments).export(str(plain))
        final = target / program_file(size)
        if job["quantize"] is None:
            final.write_bytes(plain.read_bytes())
        else:
            _quantize(plain, final, inputs, size, job["quantize"])
    said = {"compile/int8": job["quantize"] is not None}
    built = {"batch_sizes": job["batch_sizes"], "params": said}
    (source / "built.json").write_text(json.dumps(built))


def _Module(graph: Any) -> Any:  # noqa: N802
    """Wraps an exported graph, which refuses `eval()` itself."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = [graph]

        def forward(self, *arguments: Any) -> Any:
            return self.graph[0](*arguments)

    return Wrapped().eval()


def _quantize(plain: Path, final: Path, inputs: list[Any], size: int, step: dict[str, Any]) -> None:
    """Quantize the file with the AI Edge Quantizer."""
    from ai_edge_quantizer import quantizer, recipe

    chosen = {
        "static-int8": recipe.static_wi8_ai8,
        "dynamic-int8": recipe.dynamic_wi8_afp32,
        "weight-int8": recipe.weight_only_wi8_afp32,
    }[step["scheme"]]
    made = quantizer.Quantizer(str(plain), chosen())
    calibrated = None
    if made.need_calibration:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import calibrator, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils

        signature = Interpreter(str(plain)).get_signature_list()
        name, said = next(iter(signature.items()))
        batches = [
            {
                key: column[start : start + size].numpy()
                for key, column in zip(said["inputs"], inputs, strict=True)
            }
            for start in range(0, len(inputs[0]) - size + 1, size)
        ]
        # The quantizer's own way averages ranges over batches: clipped, and others for each size.
        recipes = recipe_manager.RecipeManager()
        recipes.load_quantization_recipe(chosen())
        ranges = calibrator.Calibrator(
            str(plain), num_threads=1, qsv_update_func=qsv_utils.min_max_update
        )
        ranges.calibrate({name: batches}, recipes)
        calibrated = ranges.get_model_qsvs()
    made.quantize(calibrated).export_model(str(final), overwrite=True)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
