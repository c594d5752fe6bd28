"""The training loop, alone and in a gloo process group: the same weights, resumed or not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.events import EpochEnd, Event, Metric, Note
from prefect_hone.ray_workers.store.file_names import WEIGHTS
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.load import load_recipe
from prefect_hone.recipe.training import Train
from safetensors.torch import load_file


def job(project: Path, checkpoints: Path, **train: object) -> TrainJob:
    use_code(project)
    recipe = load_recipe(project / "recipe.yaml")
    fields = {**recipe.train.model_dump(), **train}
    return TrainJob(
        model=recipe.model,
        data=recipe.data,
        train=Train.model_validate(fields),
        metric="accuracy",
        higher_is_better=True,
        allowed=Allowed.from_environment(project),
        checkpoints=str(checkpoints),
    )


def last_weights(checkpoints: Path) -> dict[str, torch.Tensor]:
    """The whole weights of the newest checkpoint, whichever mesh wrote it."""
    kept = Checkpoints(str(checkpoints), True)
    with tempfile.TemporaryDirectory() as folder:
        kept.export(kept.all()[-1], Path(folder))
        return load_file(Path(folder) / WEIGHTS)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True},
        {"name": "adam", "lr": 0.01},
        {"name": "adamw", "lr": 0.01},
    ],
)
def test_it_learns(project: Path, tmp_path: Path, optimizer: dict) -> None:
    events: list[Event] = []
    train_loop(job(project, tmp_path / "ck", optimizer=optimizer, epochs=6), events.append)
    found = {
        name: [e.value for e in events if isinstance(e, Metric) and e.name == name]
        for name in ("train/loss", "validation/accuracy")
    }
    assert found["train/loss"][-1] < found["train/loss"][0] / 2
    assert found["validation/accuracy"][-1] >= 0.8


def test_a_resumed_training_ends_with_the_same_bits(project: Path, tmp_path: Path) -> None:
    whole = job(project, tmp_path / "whole", epochs=4, schedule={"name": "cosine"})
    train_loop(whole, lambda _: None)

    class Stop(Exception):
        pass

    def stop_after_two(event: Event) -> None:
        if isinstance(event, EpochEnd) and event.done == 2:
            raise Stop

    halved = job(project, tmp_path / "halved", epochs=4, schedule={"name": "cosine"})
    with pytest.raises(Stop):
        train_loop(halved, stop_after_two)
    events: list[Event] = []
    train_loop(halved, events.append)

    assert "resuming after epoch 2" in next(e.text for e in events if isinstance(e, Note))
    expected, found = last_weights(tmp_path / "whole"), last_weights(tmp_path / "halved")
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    steps = [e.step for e in events if isinstance(e, Metric) and e.name == "train/loss"]
    assert sorted(steps) == list(range(len(steps))), "the whole curve, each step once"


def test_a_torn_checkpoint_does_not_count(project: Path, tmp_path: Path) -> None:
    train_loop(job(project, tmp_path / "ck", epochs=3), lambda _: None)
    checkpoints = Checkpoints(str(tmp_path / "ck"), True)
    newest = checkpoints.all()[-1]
    (shard,) = newest.files
    (Path(newest.path) / shard).write_bytes(b"torn")
    found = checkpoints.latest()
    assert found is None or found.step < newest.step
    (Path(newest.path) / "committed.json").unlink()
    assert all(c.path != newest.path for c in checkpoints.all())


def test_nan_is_named_and_the_last_checkpoint_stays(project: Path, tmp_path: Path) -> None:
    import wine_model

    wine_model.nan_loss.calls = 0
    with pytest.raises(StepFailed, match=r"the loss became nan at step 7 \(epoch 2\)") as caught:
        train_loop(job(project, tmp_path / "ck", loss="wine_model:nan_loss"), lambda _: None)
    assert "step-000000004" in str(caught.value)
    assert len(Checkpoints(str(tmp_path / "ck"), True).all()) == 1


def test_fp16_without_a_gpu_is_refused(project: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    half = job(project, tmp_path, precision="fp16", resources={"cpus": 1, "gpus": 1})
    with pytest.raises(InputError, match="needs a GPU"):
        train_loop(half, lambda _: None)


@pytest.mark.nightly
def test_two_processes_train_the_same_model_as_one(project: Path, tmp_path: Path) -> None:
    """Data parallel with gloo under plain torch.distributed, with an uneven last batch."""
    options = ["train.epochs=3", "train.optimizer={name: sgd, lr: 0.05}", "train.batch_size=25"]
    for world in (1, 2):
        subprocess.run(
            [
                sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world}",
                "--standalone", "-m", "prefect_hone.ray_workers.training",
                str(project / "recipe.yaml"), str(tmp_path / f"world{world}"),
                *options, f"train.mesh.data={world}",
            ],
            check=True, timeout=480, capture_output=True,
        )  # fmt: skip
    one, two = (last_weights(tmp_path / f"world{world}") for world in (1, 2))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name


def test_a_checkpoint_holds_no_pickled_code(project: Path, tmp_path: Path) -> None:
    train_loop(job(project, tmp_path / "ck", epochs=1), lambda _: None)
    (checkpoint,) = Checkpoints(str(tmp_path / "ck"), True).all()
    kinds = {path.suffix for path in Path(checkpoint.path).iterdir()}
    assert kinds == {".safetensors", ".sha256", ".json"}


def test_a_data_set_that_changed_its_length_is_refused(project: Path, tmp_path: Path) -> None:
    first = job(project, tmp_path / "ck", epochs=1)
    rows = {"factory": "odd_data:rows", "args": {"count": 40}}
    first = TrainJob.model_validate({**dict(first), "data": rows})
    train_loop(first, lambda _: None)
    longer = {**rows, "args": {"count": 50}}
    again = TrainJob.model_validate({**dict(first), "data": longer})
    with pytest.raises(InputError, match=r"train had 36 samples .* and has 45 now"):
        train_loop(again, lambda _: None)
