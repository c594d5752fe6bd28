"""Checkpoints in one process: which of them count, and what comes back from them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.events import Metric
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training import checkpoints as module
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.recipe.errors import InputError, StoreError
from safetensors.torch import load_file


def state(value: float) -> dict[str, torch.Tensor]:
    return {
        "model/weight": torch.full((2, 3), value),
        "optimizer/weight/exp_avg": torch.full((2, 3), value / 10),
        "optimizer/weight/step": torch.tensor(value),
    }


@pytest.fixture(params=["local", "remote"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of this machine, and one of a store that can't rename."""
    return str(tmp_path / "ck") if request.param == "local" else f"memory://{tmp_path.name}/ck"


def saved(url: str, *qualities: float | None, **options: Any) -> Checkpoints:
    """One checkpoint an epoch of 10 steps, with these qualities."""
    made = Checkpoints(url, higher_is_better=True, **options)
    made.open()
    for epoch, quality in enumerate(qualities, 1):
        made.save(state(float(epoch)), epoch * 10, epoch, quality, {"scaler": {}})
    made.close()
    return made


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_saved_comes_back(url: str, asynchronous: bool) -> None:
    made = saved(url, 0.5, keep=1, asynchronous=asynchronous)
    newest = made.latest()
    assert newest is not None
    assert (newest.step, newest.epoch, newest.quality) == (10, 1, 0.5)
    assert newest.rest == {"scaler": {}}
    found = {name: torch.zeros_like(value) for name, value in state(0.0).items()}
    made.load(newest, found)
    for name, value in state(1.0).items():
        assert torch.equal(found[name], value), name
    assert made.names(newest)["model/weight"] == (torch.Size([2, 3]), torch.float32)


def test_the_state_is_copied_when_it_is_saved(url: str) -> None:
    made = Checkpoints(url, higher_is_better=True, asynchronous=True)
    made.open()
    weight = torch.ones(2, 3)
    for step in (1, 2):
        made.save({"model/weight": weight}, step, step, None, {})
        weight += 1  # training goes on
    made.close()
    newest = made.latest()
    assert newest is not None
    found = {"model/weight": torch.zeros(2, 3)}
    made.load(newest, found)
    assert torch.equal(found["model/weight"], torch.full((2, 3), 2.0))


def test_the_best_and_the_newest_are_kept(url: str) -> None:
    made = saved(url, 0.5, 0.9, 0.7, 0.9, 0.6)
    assert [checkpoint.step for checkpoint in made.all()] == [20, 50]
    best = made.best()
    assert best is not None
    assert best.step == 20, "of several, the earliest"
    low = Checkpoints(url, higher_is_better=False)
    best = low.best()
    assert best is not None
    assert best.step == 50
    more = saved(f"{url}-more", 0.5, 0.9, 0.7, 0.9, 0.6, keep=3)
    assert [checkpoint.step for checkpoint in more.all()] == [20, 30, 40, 50]


def test_one_within_an_epoch_is_never_the_best(url: str) -> None:
    made = saved(url, 0.5, None)
    best = made.best()
    assert best is not None
    assert best.step == 10
    assert saved(f"{url}-none", None).best() is None


def test_what_has_no_commit_does_not_count(url: str) -> None:
    made = saved(url, 0.5, 0.6, keep=2)
    newest = made.all()[-1]
    made.fs.rm_file(f"{newest.path}/committed.json")
    latest = made.latest()
    assert latest is not None
    assert latest.step == 10
    made.save(state(3.0), 30, 3, 0.7, {})
    assert not made.fs.exists(newest.path), "the torn one is cleared away"


def test_files_that_changed_do_not_count(url: str) -> None:
    made = saved(url, 0.5, 0.6, keep=2)
    newest = made.all()[-1]
    (name,) = newest.files
    made.fs.pipe_file(f"{newest.path}/{name}", b"torn")
    latest = made.latest()
    assert latest is not None
    assert latest.step == 10


def test_where_there_is_none_there_is_none(url: str) -> None:
    made = Checkpoints(url, higher_is_better=True)
    assert made.all() == []
    assert made.latest() is None
    assert made.best() is None
    assert made.history(100) == []


def test_another_model_is_refused_by_the_name_of_its_tensor(url: str) -> None:
    made = saved(url, 0.5)
    newest = made.all()[-1]
    with pytest.raises(InputError, match=r"'model/weight' has shape \(3, 3\) here, and shape"):
        made.load(newest, {"model/weight": torch.zeros(3, 3)})
    with pytest.raises(InputError, match=r"'model/bias' has shape \(3,\) here, and none there"):
        made.load(newest, {"model/bias": torch.zeros(3)})


def test_weights_are_exported_and_their_average_if_there_is_one(url: str, tmp_path: Path) -> None:
    made = saved(url, 0.5)
    made.export(made.all()[-1], tmp_path)
    assert set(load_file(tmp_path / WEIGHTS)) == {"weight"}
    averaged = {**state(2.0), "ema/weight": torch.full((2, 3), 7.0)}
    made.save(averaged, 20, 2, 0.6, {})
    made.export(made.all()[-1], tmp_path)
    assert torch.equal(load_file(tmp_path / WEIGHTS)["weight"], torch.full((2, 3), 7.0))


def test_the_history_up_to_a_step_comes_back_and_the_rest_is_dropped(url: str) -> None:
    made = Checkpoints(url, higher_is_better=True)
    told = [Metric("train/loss", 1.0 / (step + 1), step, 1_700_000_000_000) for step in range(6)]
    made.add_history(2, told[:2])
    made.add_history(4, told[2:4])
    made.add_history(6, told[4:])
    assert made.history(4) == told[:4]
    assert made.history(6) == told[:4], "training goes on from step 4"


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = Checkpoints(str(tmp_path), higher_is_better=True)
    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(StoreError, match="no space left"):
        made.save(state(1.0), 10, 1, 0.5, {})
    with pytest.raises(StoreError, match="no space left"):
        made.add_history(10, [])
    assert made.all() == []


def test_an_asynchronous_save_that_fails_is_raised_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = Checkpoints(str(tmp_path), higher_is_better=True, asynchronous=True)
    made.open()
    monkeypatch.setattr(module, "write_whole", full)
    made.save(state(1.0), 10, 1, 0.5, {})
    with pytest.raises(StoreError, match="no space left"):
        made.save(state(2.0), 20, 2, 0.5, {})
    made.close()


def test_the_commit_names_every_file_with_its_digest(url: str) -> None:
    made = saved(url, 0.5)
    newest = made.all()[-1]
    said = json.loads(made.fs.cat_file(f"{newest.path}/committed.json"))
    assert set(said) == {"step", "epoch", "quality", "rest", "files"}
    assert all(name.endswith(".safetensors") for name in said["files"])
    assert {len(digest) for digest in said["files"].values()} == {64}


# Attacks, by somebody who can write files to the store.


def test_a_forged_checkpoint_is_not_resumed(url: str) -> None:
    made = saved(url, 0.5, 0.6, keep=2, key="k" * 64)
    newest = made.all()[-1]
    said = json.loads(made.fs.cat_file(f"{newest.path}/committed.json"))
    for lie in ({**said, "quality": 1.0}, {k: v for k, v in said.items() if k != "signature"}):
        made.fs.pipe_file(f"{newest.path}/committed.json", json.dumps(lie).encode())
        assert [checkpoint.step for checkpoint in made.all()] == [10]
    assert Checkpoints(url, True, key="other" * 13).all() == []


def test_a_checkpoint_under_another_name_is_not_resumed(url: str) -> None:
    made = saved(url, 0.5, key="k" * 64)
    newest = made.all()[-1]
    made.fs.mv(newest.path, f"{newest.path[:-8]}00000000", recursive=True)
    assert made.all() == []


def test_tensors_that_the_list_does_not_name_are_refused(url: str, tmp_path: Path) -> None:
    made = saved(url, 0.5, key="k" * 64)
    newest = made.all()[-1]
    made.fs.pipe_file(f"{newest.path}/more.safetensors", b"planted")
    assert made.latest() is None
    with pytest.raises(StoreError, match="missing or corrupted"):
        made.export(newest, tmp_path)


def test_a_forged_curve_is_left_out(url: str) -> None:
    made = Checkpoints(url, higher_is_better=True, key="k" * 64)
    told = [Metric("train/loss", 0.5, 1, 1_700_000_000_000)]
    made.add_history(2, told)
    made.fs.pipe_file(f"{made.root}/history/000000001.json", b'{"metrics": [{"name": "x"}]}')
    made.fs.pipe_file(f"{made.root}/history/nonsense", b"\0")
    assert made.history(4) == told
