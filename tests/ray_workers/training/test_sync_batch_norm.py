"""Batch norm over the whole batch: any number of workers computes what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gang import together, train
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.parallel.parallelize import check_mesh
from prefect_hone.ray_workers.training.parallel.synced_norm import refuse_if_unable, sync
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.training import Train
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn


class Activated(nn.BatchNorm1d):
    """A forward of its own around torch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class Copied(nn.BatchNorm2d):
    """torch's forward once more, and an activation, as timm's BatchNormAct2d."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            self.momentum, self.eps,
        ).relu()  # fmt: skip


class ByItself(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), Copied(4),
        nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 6),
        Activated(6), nn.Linear(6, 1),
    )  # fmt: skip


def state_after_a_step(parts: list[list[int]] | None = None) -> dict[str, list[float]]:
    """Statistics and summed gradients of a batch of 8, of which each worker has its part."""
    import torch.distributed as dist

    x = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 1
    model = net().train()
    if parts is not None:
        model = sync(model, torch.device("cpu"))
        x = x[parts[dist.get_rank()]]
    (model(x) ** 2).sum().backward()
    found = {name: value.detach() for name, value in model.named_buffers()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        if parts is not None:
            dist.all_reduce(parameter.grad)
        found[f"gradient of {name}"] = parameter.grad
    return {name: value.double().flatten().tolist() for name, value in found.items()}


def test_statistics_and_gradients_of_uneven_parts_are_those_of_the_whole_batch() -> None:
    whole = state_after_a_step()
    for found in together(2, state_after_a_step, [[0, 1, 2, 3, 4], [5, 6, 7]]):
        assert found.keys() == whole.keys()
        for name, values in whole.items():
            assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-4), name


def trained(folder: Path, mesh: dict[str, int], **settings: Any) -> dict[str, torch.Tensor]:
    job = {
        "model": {"factory": "double_digits:model", "args": {"width": 8}},
        "data": {"factory": "double_digits:data", "args": {}},
        "train": {
            "epochs": 1, "batch_size": 128, "mesh": mesh, "deterministic": True,
            "optimizer": {"name": "sgd", "lr": 0.05}, **settings,
        },
        "metric": "accuracy", "higher_is_better": True,
        "allowed": {"modules": ["double_digits"]},
        "checkpoints": str(folder),
    }  # fmt: skip
    together(mesh.get("data", 1) * mesh.get("shard", 1), train, job)
    kept = Checkpoints(str(folder), False)
    kept.export(kept.all()[-1], folder)
    return load_file(folder / WEIGHTS)


@pytest.mark.nightly
@pytest.mark.parametrize("axis", ["data", "shard"])
def test_two_workers_train_what_one_trains_running_statistics_included(
    tmp_path: Path, axis: str
) -> None:
    alone = trained(tmp_path / "alone", {})
    found = trained(tmp_path / axis, {axis: 2}, sync_batch_norm=True)
    assert found.keys() == alone.keys()
    apart = {n: float((found[n] - v).abs().max()) for n, v in alone.items() if v.ndim}
    assert max(apart.values()) < 1e-7, apart


def test_check_tells_whose_statistics_batch_norms_take() -> None:
    spec = Train.model_validate({"epochs": 1, "batch_size": 8, "mesh": {"data": 2}})
    (said,) = check_mesh(net(), spec, Allowed(), None)
    assert "train.sync_batch_norm takes those of the whole batch" in said
    synced = spec.model_copy(update={"sync_batch_norm": True})
    assert check_mesh(net(), synced, Allowed(), None) == []
    assert check_mesh(nn.Linear(2, 2), spec, Allowed(), None) == []


def test_a_batch_norm_that_computes_its_own_statistics_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), ByItself(4))
    with pytest.raises(InputError, match="layer '1' is a ByItself, a batch norm that computes"):
        refuse_if_unable(model)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mesh": {"tensor": 2}}, "not with mesh.tensor"),
        ({"mesh": {"data": 2}, "accumulate": 2}, "set accumulate to 1"),
        ({"mesh": {"data": 2}, "recompute": "full"}, "set recompute to none"),
    ],
)
def test_what_it_can_not_be_combined_with_is_refused_at_load(fields: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Train.model_validate({"epochs": 1, "batch_size": 8, "sync_batch_norm": True, **fields})
