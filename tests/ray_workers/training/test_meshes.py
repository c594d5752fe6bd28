"""Every mesh trains the same model: the loss and the weights of one process, to 1e-5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gang import together, train
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from safetensors.torch import load_file

EXAMPLE = "prefect_hone.recipe.examples.charlm"
MODEL = {
    "factory": f"{EXAMPLE}.charlm_model:charlm",
    "args": {"channels": 16, "heads": 4, "layers": 4, "length": 16},
}
#: 20 steps: 308 samples of 16 characters, the last batch of each epoch is smaller.
DATA = {"factory": f"{EXAMPLE}.charlm_data:charlm_data", "args": {"length": 16, "characters": 5800}}


def job(folder: Path, mesh: dict, **settings: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "data": DATA,
        "train": {
            "epochs": 2, "batch_size": 32, "mesh": mesh, "deterministic": True,
            "optimizer": {"name": "adamw", "lr": 0.003}, "clip_grad_norm": 0.5,
            "schedule": {"name": "cosine", "warmup": 0.1},
            **settings,
        },
        "metric": "bits_per_token",
        "higher_is_better": False,
        "allowed": {"prefixes": ["prefect_hone.recipe.examples"], "modules": []},
        "checkpoints": str(folder),
    }  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The whole weights after the last step."""
    kept = Checkpoints(str(folder), False)
    kept.export(kept.all()[-1], folder)
    return load_file(folder / WEIGHTS)


def curve(events: list[dict], name: str = "train/loss") -> dict[int, float]:
    found = [(e["step"], e["value"]) for e in events if e.get("name") == name]
    assert len(found) == len({step for step, _ in found}), "a step has two values"
    return dict(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, float], dict]:
    """Losses and weights of one process."""
    folder = tmp_path_factory.mktemp("alone")
    (events,) = together(1, train, job(folder, {}))
    return curve(events), {"weights": weights(folder), "events": events}


def same(alone: tuple, events: list[dict], folder: Path, tolerance: float = 1e-5) -> None:
    expected, found = alone[0], curve(events)
    assert set(expected) == set(found) == set(range(20))
    assert max(abs(expected[step] - found[step]) for step in expected) < tolerance
    found_weights = weights(folder)
    assert set(found_weights) == set(alone[1]["weights"])
    for name, value in alone[1]["weights"].items():
        assert torch.allclose(value, found_weights[name], atol=tolerance, rtol=0), name
    for name in ("validation/loss", "validation/bits_per_token", "train/gradient_norm"):
        a, b = curve(alone[1]["events"], name), curve(events, name)
        assert a.keys() == b.keys()
        assert max(abs(a[step] - b[step]) for step in a) < 1e-4, name


PIPELINE = {"pipeline": {"microbatches": 2}}
INTERLEAVED = {
    "pipeline": {"schedule": "interleaved-1f1b", "microbatches": 2, "stages_per_worker": 2}
}


QUICK = [
    ({"data": 2}, {}),
    ({"pipeline": 2}, {"parallel": PIPELINE}),
]
SLOW = [
    ({"data": 2, "tensor": 2}, {}),
]
NIGHTLY = [
    ({"shard": 2}, {"accumulate": 2, "recompute": "full"}),
    ({"tensor": 2}, {"parallel": {"tensor": {"sequence": True}}}),
    ({"pipeline": 2}, {"parallel": INTERLEAVED}),
    ({"shard": 2}, {}),
    ({"tensor": 2}, {}),
    ({"data": 2}, {"accumulate": 2}),
    ({"pipeline": 2}, {"parallel": {"pipeline": {"schedule": "gpipe", "microbatches": 2}}}),
    ({"shard": 2, "tensor": 2}, {"recompute": "selective"}),
    ({"data": 2, "shard": 2}, {}),
    ({"data": 2, "pipeline": 2}, {"parallel": PIPELINE}),
    ({"data": 2, "tensor": 2, "pipeline": 2}, {"parallel": PIPELINE}),
]


def described(mesh: dict, settings: dict) -> str:
    return " x ".join(mesh) + (f" {json.dumps(settings)}" if settings else "")


@pytest.mark.parametrize(
    ("mesh", "settings"),
    [
        *(pytest.param(*case, id=described(*case)) for case in QUICK),
        *(pytest.param(*case, id=described(*case), marks=pytest.mark.slow) for case in SLOW),
        *(pytest.param(*case, id=described(*case), marks=pytest.mark.nightly) for case in NIGHTLY),
    ],
)
def test_a_mesh_trains_what_one_process_trains(
    alone: tuple, tmp_path: Path, mesh: dict, settings: dict
) -> None:
    world = 1
    for size in mesh.values():
        world *= size
    events = together(world, train, job(tmp_path, mesh, **settings))
    same(alone, events[0], tmp_path)
