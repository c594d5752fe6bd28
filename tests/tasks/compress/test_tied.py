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


def start(bench: Bench, folder: Path, model: dict, compression: dict) -> tuple[Any, Any, dict]:
    """A model, its artifact, and the specification of a pass on it."""
    torch.manual_seed(0)
    whole: Any = bench.allowed.call(model["factory"], model["args"], "model")
    folder.mkdir()
    save_module(whole, [], folder)
    spec = {
        "model": model, "data": {"factory": "odd_data:tokens", "args": {}}, "seed": 0,
        "metric": "bits_per_token", "higher_is_better": False, "label": "v/p",
        "train": {"epochs": 1, "batch_size": 8}, "compression": compression,
    }  # fmt: skip
    return whole, bench.store.put(folder, "weights"), spec


def test_tied_weights_stay_tied_when_they_become_narrower(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning")
    bench = Bench(project, tmp_path)
    model = {"factory": "odd_models:odd", "args": {"kind": "tied-head"}}
    half = {"kind": "prune", "method": "channel", "ratio": 0.5, "round_to": 4}
    whole, weights, spec = start(bench, tmp_path / "start", model, half)
    done = bench.run("compress.prune:apply", spec, module=weights)
    folder = bench.store.fetch(done.outputs["module"])
    made: Any = load_module(Factory.model_validate(model), bench.allowed, folder)
    assert made.embed.weight.shape[1] < whole.embed.weight.shape[1]
    assert made.head.weight is made.embed.weight
    assert made.bias is made.head.bias


@pytest.mark.parametrize(
    ("step", "compression"),
    [
        ("prune", {"kind": "prune", "method": "magnitude", "ratio": 0.5, "recover_epochs": 1,
                   "recover_teacher": True}),
        ("distill", {"kind": "distill", "factory": "odd_models:odd", "args": {"kind": "tied"},
                     "epochs": 1}),
        ("qat", {"kind": "qat", "epochs": 1}),
    ],
    ids=["prune", "distill", "qat"],
)  # fmt: skip
def test_tied_weights_stay_tied(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, compression: dict
) -> None:
    if step == "qat":
        pytest.importorskip("torchao")
    monkeypatch.setattr(actors, "fit", lambda job, work: train_loop(job, work.report))
    bench = Bench(project, tmp_path)
    whole, weights, spec = start(bench, tmp_path / "start", MODEL, compression)
    done = bench.run(f"compress.{step}:apply", spec, module=weights)
    folder = bench.store.fetch(done.outputs["module"])
    made: Any = load_module(Factory.model_validate(MODEL), bench.allowed, folder)
    assert made.head.weight is made.embed.weight
    assert made.scale_again is made.scale
    assert not torch.equal(made.head.weight, whole.head.weight)
    if step == "prune":
        zeros = float((made.head.weight == 0).float().mean())
        assert zeros == pytest.approx(0.5, abs=0.25)
