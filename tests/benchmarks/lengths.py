"""Texts of 4 to 64 tokens, timed at their own lengths and padded to the longest of all.

An encoder of two layers and width 128 by ONNX Runtime and OpenVINO, one sample a call, one thread.

    python tests/benchmarks/lengths.py
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from prefect_hone.ray_workers.model.axes import read_batches
from prefect_hone.ray_workers.runtime_process import RuntimeProcess
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.specs.validate import ValidateSpec
from prefect_hone.testing.workshop import Workshop

LONGEST, ROUNDS, SLICE = 64, 15, 0.3
CODE = """
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from prefect_hone import Data


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(128, 2)

    def forward(self, tokens, mask):
        hidden = self.encoder(self.embed(tokens), src_key_padding_mask=mask < 0.5)
        return self.last((hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))


def text():
    torch.manual_seed(0)
    return Text()


def padded(samples):
    rows, targets = zip(*samples)
    tokens = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
    return {"tokens": tokens, "mask": mask}, torch.tensor(targets)


def texts():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(4, 65, (120,), generator=generator).tolist()
    rows = [torch.randint(1, 1000, (n,), generator=generator) for n in sizes]
    samples = [(row, int(row[0] > 500)) for row in rows]
    return Data(train=samples[60:], test=samples[:60], collate=padded)
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hone-lengths-") as scratch:
        code = Path(scratch) / "code"
        code.mkdir()
        (code / "length_models.py").write_text(CODE)
        workshop = Workshop(Path(scratch) / "workshop", code=code)
        recipe = Recipe.model_validate({
            "name": "lengths",
            "model": {"factory": "length_models:text"},
            "data": {"factory": "length_models:texts"},
            "train": {"epochs": 0, "batch_size": 8},
            "targets": ["onnxruntime-cpu", "openvino-cpu"],
            "registry": {"model": "lengths"},
        })  # fmt: skip
        layout = workshop.lay_out(recipe)
        own = read_batches(layout.check.folder("samples"), 1)
        lengths = [batch["tokens"].shape[1] for batch in own]
        print(f"lengths of the timed samples: {sorted(lengths)}")
        for candidate in layout.candidates:
            assert candidate.compiled is not None
            assert candidate.validated is not None
            metrics = candidate.validated.done.metrics
            spec = candidate.validated.call.spec
            assert isinstance(spec, ValidateSpec)
            folder = candidate.compiled.folder("model")
            with RuntimeProcess(spec.loader, folder, {"threads": 1}) as runtime:
                runtime.wait_loaded()
                times = [_pair(runtime, own) for _ in range(ROUNDS)]
            ratios = sorted(padded / short for short, padded in times)
            print(
                f"{candidate.name}: {metrics['parity/sqnr_db']:.0f} dB; own lengths "
                f"{1000 * statistics.median(t for t, _ in times):.3f} ms, padded to {LONGEST} "
                f"{1000 * statistics.median(t for _, t in times):.3f} ms; ratio "
                f"{statistics.median(ratios):.2f} [{ratios[1]:.2f}, {ratios[-2]:.2f}] in "
                f"{ROUNDS} rounds"
            )


def _pair(runtime: RuntimeProcess, own: list[Any]) -> tuple[float, float]:
    """Mean time of a call (s) at the samples' own lengths, and padded."""
    found = []
    for batches in (own, [_padded(batch) for batch in own]):
        runtime.prepare(batches)
        found.append(statistics.mean(runtime.time_calls(SLICE).durations))
    return found[0], found[1]


def _padded(batch: Any) -> Any:
    return {
        name: np.pad(value, ((0, 0), (0, LONGEST - value.shape[1])))
        for name, value in batch.items()
    }


if __name__ == "__main__":
    main()
