"""The bundled character model: it learns, int8 keeps what it learnt, and where an int8 ruins it the
gate says so and accuracy control mends it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from prefect_hone.ray_workers.data.calling import arrays
from prefect_hone.ray_workers.data.splits import batch_indices, batches, split
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.ray_workers.store.artifacts import Artifact
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.recipe.examples.charlm.charlm_data import trigram_bits
from prefect_hone.recipe.load import load_recipe
from prefect_hone.tasks.compress.schemes.runners import runner_of
from prefect_hone.tasks.decide import judge
from steps_bench import Bench

EXAMPLE = "prefect_hone.recipe.examples.charlm"
MODEL = {
    "factory": f"{EXAMPLE}.charlm_model:charlm",
    "args": {"channels": 64, "heads": 4, "layers": 2, "length": 64},
}
DATA = {"factory": f"{EXAMPLE}.charlm_data:charlm_data", "args": {"length": 64}}
JUDGED = {"model": MODEL, "data": DATA, "metric": "bits_per_token"}
JOB = {**JUDGED, "higher_is_better": False}
#: Ranges that hold only three fifths of the values.
RUINOUS = {"scheme": "static-int8", "calibration": "percentile", "percentile": 60.0, "samples": 64}
ALLOWED = 0.04  # bits a character

pytestmark = pytest.mark.nightly


class CharLm:
    """Trained for three epochs, and exported."""

    def __init__(self, folder: Path) -> None:
        train = {
            "epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.004},
            "schedule": {"name": "cosine", "warmup": 0.05},
        }  # fmt: skip
        job = TrainJob.model_validate(
            {**JOB, "train": train, "checkpoints": str(folder / "checkpoints"),
             "allowed": {"prefixes": [EXAMPLE]}}
        )  # fmt: skip
        train_loop(job, lambda _: None)
        checkpoints = Checkpoints(job.checkpoints, higher_is_better=False)
        best = checkpoints.best()
        assert best is not None
        assert best.quality is not None
        self.bits = best.quality
        (folder / "weights").mkdir()
        checkpoints.export(best, folder / "weights")
        self.bench = Bench(folder, folder)
        weights = self.bench.store.put(folder / "weights", "weights")
        spec = {**JUDGED, "seed": 0, "train": train}
        self.calibration = self.bench.run("check:check", spec).outputs["calibration"]
        self.graph = self.bench.run(
            "export:export", {"model": MODEL}, weights=weights, inputs=self.calibration
        ).outputs["graph"]
        splits = split(self.bench.allowed.call(DATA["factory"], DATA["args"], "data"), 0)
        groups = batch_indices(range(len(splits.test)), 64)
        self.test = [(arrays(x), y.numpy()) for x, y in batches(splits, splits.test, groups)]
        self.whole = self.measured(self.graph)

    def quantized(self, **fields: Any) -> Done:
        spec = {
            "compression": {"kind": "quantize", **fields},
            "judge": {**JOB, "seed": 0},
        }
        inputs = {"graph": self.graph, "calibration": self.calibration}
        return self.bench.run("compress.quantize:apply", spec, **inputs)

    def measured(self, graph: Artifact) -> float:
        """Bits a character on the test split."""
        run = runner_of(onnx.load(str(self.bench.store.fetch(graph) / "model.onnx")))
        measure = metric("bits_per_token")
        return measure.aggregate(np.concatenate([measure.per_sample(run(x), y)
                                                 for x, y in self.test]))  # fmt: skip

    def drop(self, done: Done) -> float:
        return self.measured(done.outputs["graph"]) - self.whole


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CharLm:
    return CharLm(tmp_path_factory.mktemp("charlm"))


def passes_the_gate(drop: float) -> bool:
    return all(gate.passed for gate in judge(load_recipe("charlm"), {"quality/drop": drop}))


def test_it_beats_a_3_gram_model(trained: CharLm) -> None:
    assert trained.bits < trigram_bits(), "bits per character on text it has not seen"


def test_int8_keeps_what_it_learnt(trained: CharLm) -> None:
    drop = trained.drop(trained.quantized(scheme="static-int8", samples=64))
    assert 0 < abs(drop) < ALLOWED, "the attention mask's minus infinity is not quantized"
    assert passes_the_gate(drop)


def test_a_ruinous_int8_is_caught_by_the_gate_and_mended(trained: CharLm) -> None:
    ruinous = trained.quantized(**RUINOUS)
    ruined = trained.drop(ruinous)
    assert ruined > 5 * ALLOWED
    assert not passes_the_gate(ruined)
    mended = trained.quantized(**RUINOUS, accuracy_control={"at_most": ALLOWED / 2})
    assert mended.metrics["quantize/validation_drop_before_control"] > ALLOWED
    assert mended.metrics["quantize/validation_drop"] <= ALLOWED / 2
    assert mended.params["quantize/layers"] < ruinous.params["quantize/layers"]
    assert mended.params["quantize/layers_put_back"] > 0
    assert passes_the_gate(trained.drop(mended))
