"""What the recipe's `train` can ask for: optimizers, hooks, averages, objectives, resharding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gang import plain, together, train
from prefect_hone.ray_workers.training.checkpoints import Checkpoints
from prefect_hone.ray_workers.training.job import TrainJob
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.ray_workers.training.parallel.axes import Axes
from prefect_hone.ray_workers.training.parallel.blocks import find_blocks
from prefect_hone.ray_workers.training.parallel.parallelize import check_mesh, parallelize
from prefect_hone.ray_workers.training.parallel.pipeline import balance
from prefect_hone.ray_workers.training.parallel.tensor import plan_for
from prefect_hone.ray_workers.training.watch import LossWatch
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.parallel import TensorParallel
from prefect_hone.recipe.training import Train
from pydantic import ValidationError
from ray_training import EXAMPLE
from safetensors.torch import load_file
from torch import nn

PROJECT = Path(__file__).parents[2] / "project"


def job(folder: Path, **settings: Any) -> dict[str, Any]:
    return {
        "model": {
            "factory": f"{EXAMPLE}.charlm_model:charlm",
            "args": {"channels": 16, "heads": 4, "layers": 2, "length": 16},
        },
        "data": {
            "factory": f"{EXAMPLE}.charlm_data:charlm_data",
            "args": {"length": 16, "characters": 5800},
        },
        "train": {
            "epochs": 2, "batch_size": 32, "deterministic": True,
            "optimizer": {"name": "adamw", "lr": 0.003}, **settings,
        },
        "metric": "bits_per_token", "higher_is_better": False,
        "allowed": {"prefixes": ["prefect_hone.recipe.examples"], "modules": ["wine_model"]},
        "checkpoints": str(folder),
    }  # fmt: skip


def curve(events: list[dict], name: str = "train/loss") -> dict[int, float]:
    return {e["step"]: e["value"] for e in events if e.get("name") == name}


def alone(folder: Path, **settings: Any) -> dict[int, float]:
    events: list[dict] = []
    train_loop(
        TrainJob.model_validate(job(folder, **settings)), lambda event: events.append(plain(event))
    )
    return curve(events)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "nadam"},
        {"name": "adafactor", "lr": 0.02},
        pytest.param({"name": "muon"}, marks=pytest.mark.slow),
        pytest.param({"name": "lamb", "lr": 0.01}, marks=pytest.mark.slow),
        pytest.param({"name": "lars", "lr": 0.5}, marks=pytest.mark.slow),
        {"name": "import", "factory": "wine_model:my_optimizer", "lr": 0.03},
    ],
    ids=lambda optimizer: optimizer["name"],
)
def test_every_optimizer_learns(tmp_path: Path, optimizer: dict) -> None:
    if optimizer["name"] in ("lamb", "lars"):
        pytest.importorskip("pytorch_optimizer")
    use_code(PROJECT)
    losses = alone(tmp_path, optimizer=optimizer, epochs=2)
    assert sum(list(losses.values())[-3:]) / 3 < losses[0] - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("compress", [pytest.param("fp16", marks=pytest.mark.nightly), "powersgd"])
def test_compressed_gradients_train_nearly_the_same(tmp_path: Path, compress: str) -> None:
    whole = alone(tmp_path / "alone")
    data = {"compress": compress, "powersgd_after": 2, "powersgd_rank": 4}
    settings = {"mesh": {"data": 2}, "parallel": {"data": data}}
    events = together(2, train, job(tmp_path / "two", **settings))[0]
    found = curve(events)
    assert max(abs(found[step] - whole[step]) for step in whole) < 0.3
    assert found != whole, "what was sent was not compressed"


def test_an_average_of_the_weights_is_what_is_kept(tmp_path: Path) -> None:
    alone(tmp_path, ema=0.9)
    checkpoints = Checkpoints(str(tmp_path), False)
    last = checkpoints.all()[-1]
    kept = checkpoints.names(last)
    assert any(name.startswith("ema/") for name in kept)
    checkpoints.export(last, tmp_path)
    exported = load_file(tmp_path / "model.safetensors")
    plain = {
        name: torch.empty(size) for name, (size, _) in kept.items() if name.startswith("model/")
    }
    checkpoints.load(last, plain)
    name = "head.logits.weight"
    assert not torch.equal(exported[name], plain[f"model/{name}"]), "the average, not the last"


@pytest.mark.slow
def test_label_smoothing_and_accumulation_and_clipping(tmp_path: Path) -> None:
    plain = alone(tmp_path / "a")
    accumulated = alone(tmp_path / "b", accumulate=3)
    assert accumulated == pytest.approx(plain, abs=1e-5), "the same gradients in parts"
    smoothed = alone(tmp_path / "c", label_smoothing=0.2)
    assert smoothed[19] > plain[19]
    sgd = {"name": "sgd", "lr": 0.5, "momentum": 0.0}
    free = alone(tmp_path / "d", optimizer=sgd)
    clipped = alone(tmp_path / "e", optimizer=sgd, clip_grad_norm=0.01)
    assert clipped[19] > free[19] + 0.1, "small steps"


@pytest.mark.slow
def test_deterministic_is_the_same_bits(tmp_path: Path) -> None:
    assert alone(tmp_path / "a") == alone(tmp_path / "b")


def test_a_loss_that_leaps_stops_the_training(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path), False)
    watch, early = (LossWatch(3.0, checkpoints) for _ in range(2))
    for step in range(50):
        watch.look(1.0, step, 0)
    watch.look(2.9, 50, 1)
    with pytest.raises(StepFailed, match=r"the loss leapt to 3.1 at step 51 .* 3 times the median"):
        watch.look(3.1, 51, 1)
    for step in range(49):
        early.look(1.0, step, 0)
    early.look(3.1, 49, 1)  # too early to tell


@pytest.mark.nightly
def test_blocks_are_compiled(tmp_path: Path) -> None:
    one_block = job(tmp_path / "a", epochs=1)
    one_block["model"]["args"]["layers"] = 1
    curves = []
    for compile_blocks in (False, True):
        one_block["train"]["compile"] = compile_blocks
        one_block["checkpoints"] = str(tmp_path / str(compile_blocks))
        events: list[Any] = []
        train_loop(TrainJob.model_validate(one_block), events.append)
        curves.append(curve([plain(event) for event in events]))
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"shard": 4}, {"shard": 2}),
        pytest.param({"shard": 2, "tensor": 2}, {"data": 2}, marks=pytest.mark.nightly),
        pytest.param({"pipeline": 2}, {}, marks=pytest.mark.nightly),
    ],
    ids=json.dumps,
)
def test_another_mesh_goes_on_from_a_checkpoint(tmp_path: Path, first: dict, then: dict) -> None:
    """Train on one mesh, stop in the middle of an epoch, resume on another."""
    pipeline = {"pipeline": {"microbatches": 2}}
    whole = alone(tmp_path / "alone")

    def run(mesh: dict, stop_at: int | None) -> list[dict]:
        world = 1
        for size in mesh.values():
            world *= size
        settings = {"mesh": mesh, "parallel": pipeline, "checkpoint": {"every_steps": 5}}
        return together(world, train, job(tmp_path / "ck", **settings), stop_at)[0]

    assert run(first, 13)[-1] == {"kind": "preempted"}
    events = run(then, None)
    assert "resuming after step 4 of epoch 2" in next(e["text"] for e in events if e["kind"] == "note"
                                                     and "resuming" in e["text"])  # fmt: skip
    assert curve(events) == pytest.approx(whole, abs=1e-4)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    alone(tmp_path, epochs=1)
    other = job(tmp_path)
    other["model"]["args"]["channels"] = 32
    with pytest.raises(InputError, match="the checkpoint belongs to another model"):
        train_loop(TrainJob.model_validate(other), lambda _: None)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"mesh": {"data": 3}, "batch_size": 2}, "a batch of 2 can't be split over 3 workers"),
        ({"mesh": {"pipeline": 2}, "batch_size": 10}, "can't be dealt out evenly"),
        ({"precision": "fp16"}, "fp16 training needs a GPU"),
        ({"mesh": {"data": {"min": 3, "max": 2}}}, "min is above max"),
        ({"optimizer": {"name": "muon"}, "mesh": {"shard": 2}}, "looks at whole matrices"),
    ],
)
def test_what_can_not_be_trained_is_refused_at_load(train: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Train.model_validate({"epochs": 1, "batch_size": 32, **train})


def test_a_process_group_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="has 2 workers, the mesh asks for data 1 = 1"):
        together(2, train, job(tmp_path))


def test_meshes_that_a_model_can_not_take_say_what_to_implement() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.odd(x)

    def check(**train: Any) -> None:
        spec = Train.model_validate({"epochs": 1, "batch_size": 32, **train})
        check_mesh(Plain(), spec, Allowed(), torch.zeros(4, 8))

    with pytest.raises(InputError, match=r"pipeline_split\(\)"):
        check(mesh={"pipeline": 2})
    with pytest.raises(InputError, match="tensor_parallel_plan"):
        check(mesh={"tensor": 2})
    with pytest.raises(InputError, match="runs on CUDA only"):
        check(mesh={"context": 2})
    with pytest.raises(InputError, match="rounding gradients to bf16 needs GPUs"):
        check(mesh={"data": 2}, parallel={"data": {"compress": "bf16"}})
    with pytest.raises(InputError, match="no blocks to compile"):
        check(compile=True)


def test_a_plan_is_derived_for_the_usual_blocks_or_taken_from_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    plan = plan_for(model, TensorParallel(), 2, Allowed())
    assert "transformers" in plan.source
    assert any("q_proj" in name for name in plan.styles)
    bert = transformers.BertModel(transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64))  # fmt: skip
    derived = plan_for(bert, TensorParallel(), 2, Allowed())
    assert derived.derived
    assert derived.styles["encoder.layer.0.attention.self.query"] == "colwise"
    assert derived.styles["encoder.layer.1.attention.output.dense"] == "rowwise"
    assert derived.styles["encoder.layer.1.intermediate.dense"] == "colwise"
    assert derived.styles["encoder.layer.1.output.dense"] == "rowwise"


def test_blocks_and_balance() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2)))
    assert list(find_blocks(model)) == ["0", "1"]
    assert balance(["a", "b", "c", "d"], [1, 1, 1, 3], 2) == [["a", "b", "c"], ["d"]]
    assert balance(["a", "b", "c"], [5, 1, 1], 3) == [["a"], ["b"], ["c"]]


def test_axes_alone() -> None:
    axes = Axes.alone()
    assert axes.readers == 1
    assert axes.owns_outputs
    assert axes.gather(3) == [3]


@pytest.mark.slow
def test_what_is_left_of_a_plan_without_attention_is_known() -> None:
    block = nn.Module()
    block.attention, block.mlp = nn.Module(), nn.Module()
    for name in ("query", "key", "value", "out"):
        setattr(block.attention, name, nn.Linear(8, 8))
    block.attention.heads = 2
    block.mlp.fc1, block.mlp.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)
    plan = plan_for(block, TensorParallel(), 2, Allowed())
    assert plan.heads == (("attention", "heads"),)
    assert plan.instead is not None
    assert plan.instead.styles == {"mlp.fc1": "colwise", "mlp.fc2": "rowwise"}
    assert "attention stays whole" in plan.instead.describe()
    fewer = plan_for(block, TensorParallel(), 4, Allowed())  # two heads can't be dealt out to four
    assert fewer == plan_for(block, TensorParallel(), 4, Allowed())
    assert fewer.styles == plan.instead.styles
    del block.mlp
    assert plan_for(block, TensorParallel(), 2, Allowed()).instead is None
    with pytest.raises(InputError, match="can't be dealt out to 4 workers"):
        plan_for(block, TensorParallel(), 4, Allowed())


def test_a_bert_trains_by_a_plan_that_is_derived_and_proven() -> None:
    pytest.importorskip("transformers")
    assert together(2, _bert_outputs) == [True, True]


def _bert_outputs() -> bool:
    import transformers

    torch.manual_seed(0)
    bert = transformers.BertModel(transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))  # fmt: skip
    spec = Train.model_validate({"epochs": 1, "batch_size": 4, "mesh": {"tensor": 2}})
    sample = {"input_ids": torch.arange(12).reshape(2, 6)}
    placed = parallelize(bert, spec, Axes.of_this_worker(spec.mesh), Allowed(), sample)  # proves it
    query = placed.parts[0].encoder.layer[0].attention.self.query.weight
    return tuple(query.to_local().shape) == (16, 32)
