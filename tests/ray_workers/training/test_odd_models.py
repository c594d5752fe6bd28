"""Models unlike a chain of layers: every mesh trains what one process trains, to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gang import together, train_all
from prefect_hone.ray_workers.model.module import load_module
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.model import Factory
from safetensors.torch import load_file

PROJECT = Path(__file__).parents[2] / "project"
MODULES = ("odd_models", "odd_data")
ALLOWED = Allowed(modules=MODULES)


def job(folder: Path, kind: str, mesh: dict[str, int] | None = None, **train: Any) -> dict:
    data, judged = train.pop("data", {}), train.pop("judged", {})
    return {
        "model": {"factory": "odd_models:odd", "args": {"kind": kind}},
        "data": {"factory": "odd_data:tokens", "args": data} if "factory" not in data else data,
        "train": {
            "epochs": 2, "batch_size": 8, "mesh": mesh or {}, "deterministic": True, "seed": 1,
            "optimizer": {"name": "adamw", "lr": 0.01}, **train,
        },
        "metric": "bits_per_token", "higher_is_better": False, **judged,
        "allowed": {"modules": list(MODULES)},
        "checkpoints": str(folder),
    }  # fmt: skip


def exported(folder: Path) -> dict[str, torch.Tensor]:
    kept = Checkpoints(str(folder), False)
    kept.export(kept.all()[-1], folder)
    return load_file(folder / WEIGHTS)


def curve(events: list[dict], name: str) -> list[float]:
    return [e["value"] for e in events if e.get("name") == name]


TIED = {"parallel": {"tensor": {"plan": "odd_models:tied_plan"}}}
STAGES = {"parallel": {"pipeline": {"microbatches": 2}}}
BOTH = {"loss": "odd_models:both_heads", "loss_outputs": "all"}
HEADS = {
    "data": {"factory": "odd_data:several"},
    "judged": {
        "metric": "odd_models:both_right", "metric_outputs": "all", "higher_is_better": True,
    },
    "loss": "odd_models:weighted_heads", "loss_outputs": "all",
}  # fmt: skip
CASES: list[tuple[str, dict[str, int], dict[str, Any]]] = [
    ("tied", {"data": 2}, {"ema": 0.9}),
    ("running", {"shard": 2}, {}),
    ("unused", {"data": 2}, {"accumulate": 2}),
    ("two heads", {"data": 2}, {**HEADS, "accumulate": 2}),
    ("tied", {"shard": 2}, {"ema": 0.9}),
    ("tied", {"tensor": 2}, {"ema": 0.9, **TIED}),
    ("blocks", {"shard": 2}, {}),
    ("lstm", {"data": 2}, {}),
    ("siamese", {"data": 2}, {}),
    ("siamese", {"shard": 2}, {}),
    ("running", {"data": 2}, {}),
    ("unused", {"data": 2}, {}),
    ("unused", {"shard": 2}, {"accumulate": 2}),
    ("several", {"data": 2}, {}),
    ("two heads", {"shard": 2}, HEADS),
    ("several", {"shard": 2}, BOTH),
    ("lstm", {"data": 2}, {"data": {"lengths": True}, "accumulate": 2}),
    ("chain", {"data": 2}, {}),
    ("chain", {"shard": 2}, {}),
    ("chain", {"pipeline": 2}, STAGES),
    ("plain", {"tensor": 2}, {"clip_grad_norm": 10.0}),
    ("fixed heads", {"tensor": 2}, {}),
]


#: The first ones are in the quick suite.
QUICK = 4
#: What one process trains with, too.
SAME = ("data", "judged", "loss", "loss_outputs")


def _trained(folder: Path, cases: list[int]) -> dict[str, tuple[Path, list[dict]]]:
    """Folder and events of each case, by its number, and of one process, by the model."""
    found: dict[str, tuple[Path, list[dict]]] = {}
    pairs = {str(i): job(folder / f"case{i}", *CASES[i][:2], **CASES[i][2]) for i in cases}
    alone = {}
    for kind, settings in ((CASES[i][0], CASES[i][2]) for i in cases):
        ema = {"ema": 0.9} if "ema" in settings else {}
        same = ema | {k: settings[k] for k in SAME if k in settings}
        alone[f"{kind} {sorted(same)}"] = job(folder / f"{kind}{len(alone)}", kind, **same)
    for jobs, world in ((pairs, 2), (alone, 1)):
        events = together(world, train_all, list(jobs.values()), str(PROJECT))[0]
        for (name, made), told in zip(jobs.items(), events, strict=True):
            found[name] = (Path(made["checkpoints"]), told)
    return found


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[dict]]]:
    return _trained(tmp_path_factory.mktemp("odd"), list(range(QUICK)))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[dict]]]:
    return _trained(tmp_path_factory.mktemp("odd"), list(range(QUICK, len(CASES))))


def compare(trained: dict, case: int) -> None:
    kind, _, settings = CASES[case]
    folder, events = trained[str(case)]
    assert not isinstance(events, str), events
    alone_folder, alone = trained[f"{kind} {sorted({'ema', *SAME} & set(settings))}"]
    for name in ("train/loss", "train/gradient_norm", "validation/loss"):
        expected, got = curve(alone, name), curve(events, name)
        assert len(expected) == len(got) > 0
        assert max(abs(a - b) for a, b in zip(expected, got, strict=True)) < 1e-5, name
        assert abs(expected[0] - got[0]) < 1e-6, f"{name} of step 0"
    expected_weights, got_weights = exported(alone_folder), exported(folder)
    assert set(expected_weights) == set(got_weights)
    for name, value in expected_weights.items():
        assert torch.allclose(value, got_weights[name], atol=1e-5), name
    if kind == "tied":
        comes_back_tied(folder, got_weights)


def comes_back_tied(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    use_code(PROJECT)
    assert not {"head.weight", "scale_again"} & set(weights)
    factory = Factory(factory="odd_models:odd", args={"kind": "tied"})
    model: Any = load_module(factory, ALLOWED, folder)
    assert model.head.weight is model.embed.weight
    assert torch.equal(model.head.weight, weights["embed.weight"])


def described(case: int) -> str:
    kind, mesh, settings = CASES[case]
    return f"{kind} {' '.join(mesh)} {' '.join(settings)}"


@pytest.mark.parametrize("case", range(QUICK), ids=described)
def test_two_workers_train_what_one_trains(quick: dict, case: int) -> None:
    compare(quick, case)


@pytest.mark.nightly
@pytest.mark.parametrize("case", range(QUICK, len(CASES)), ids=described)
def test_every_mesh_trains_what_one_worker_trains(slow: dict, case: int) -> None:
    compare(slow, case)


@pytest.mark.slow
def test_parameters_that_only_some_batches_use(tmp_path: Path) -> None:
    """Refused with the parameter's name where DDP would wait; with `find_unused` trained right."""
    found = {"parallel": {"data": {"find_unused": True}}}
    jobs = [
        job(tmp_path / "a", "branching", {"data": 2}, parallel={"data": {"find_unused": False}}),
        job(tmp_path / "b", "branching", {"data": 2}, **found),
    ]
    refused = together(2, train_all, jobs[:1], str(PROJECT))[0][0]
    assert (
        "some parameters get a gradient in some steps only: further.weight, further.bias" in refused
    )
    assert "find_unused to true" in refused
    assert not isinstance(together(2, train_all, jobs[1:], str(PROJECT))[0][0], str)
