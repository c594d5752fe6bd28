"""A model with tied weights is compressed and retrained, and stays tied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.module import load_module, save_module
from prefect_hone.ray_workers.training.launch import actors
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.recipe.model import Factory
from steps_bench import Bench

MODEL = {"factory": "odd_models:odd", "args": {"kind": "tied"}}


@pytest.mark.parametrize(
    ("step", "compression"),
    [
        ("prune", {"kind": "prune", "method": "magnitude", "ratio": 0.5, "recover_epochs": 1,
                   "recover_teacher": True}),
        ("distill", {"kind": "distill", "factory": "odd_models:odd", "args": {"kind": "tied"},
                     "epochs": 1}),
    ],
    ids=["prune", "distill"],
)  # fmt: skip
def test_tied_weights_stay_tied(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, compression: dict
) -> None:
    monkeypatch.setattr(actors, "fit", lambda job, work: train_loop(job, work.report))
    bench = Bench(project, tmp_path)
    torch.manual_seed(0)
    whole: Any = bench.allowed.call(MODEL["factory"], MODEL["args"], "model")
    (tmp_path / "start").mkdir()
    save_module(whole, [], tmp_path / "start")
    spec = {
        "model": MODEL, "data": {"factory": "odd_data:tokens", "args": {}}, "seed": 0,
        "metric": "bits_per_token", "higher_is_better": False, "label": "v/p",
        "train": {"epochs": 1, "batch_size": 8}, "compression": compression,
    }  # fmt: skip
    start = bench.store.put(tmp_path / "start", "weights")
    done = bench.run(f"compress.{step}:apply", spec, module=start)
    folder = bench.store.fetch(done.outputs["module"])
    made: Any = load_module(Factory.model_validate(MODEL), bench.allowed, folder)
    assert made.head.weight is made.embed.weight
    assert made.scale_again is made.scale
    assert not torch.equal(made.head.weight, whole.head.weight)
    if step == "prune":
        zeros = float((made.head.weight == 0).float().mean())
        assert zeros == pytest.approx(0.5, abs=0.25)
