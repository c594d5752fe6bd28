"""Quantization-aware training rounds floats alone, and refuses by name what torchao can't do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.data.calling import (
    arrays,
    call_model,
    called,
    choose_output,
    outputs_for_loss,
)
from prefect_hone.ray_workers.model.axes import Varying
from prefect_hone.ray_workers.model.module import load_module, save_module
from prefect_hone.ray_workers.model.real_inputs import RealInputs
from prefect_hone.ray_workers.training.launch import actors
from prefect_hone.ray_workers.training.loop import train_loop
from prefect_hone.ray_workers.training.qat import with_fake_quantization
from prefect_hone.recipe.errors import StepFailed
from prefect_hone.recipe.model import Factory
from prefect_hone.recipe.parallel import Mesh
from prefect_hone.recipe.training import Train
from prefect_hone.tasks.compress.training_pass import replicated
from steps_bench import Bench
from torch import nn


def given(sample: Any, *varying: Varying) -> RealInputs:
    return RealInputs(arrays(sample), varying, ())


class Twice(nn.Module):
    """A residual block that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.relu(x + self.block(x))
        return self.other(x)


def test_a_block_that_is_called_twice_is_named_with_what_to_do() -> None:
    pytest.importorskip("torchao")
    with pytest.raises(StepFailed, match=r"block\.0: called several times in one") as caught:
        with_fake_quantization(Twice(), given(torch.randn(2, 4, 5, 5)))
    assert "other" not in caught.value.what
    assert "static-int8 quantizes such a model" in str(caught.value.do)


class Positions(nn.Module):
    """As RoBERTa and OPT have it: positions of tokens by sums and products of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.embed = nn.Embedding(9, 4), nn.Embedding(9, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = tokens.ne(0).int()
        places = (torch.cumsum(mask, 1).type_as(mask) + 0) * mask
        return self.head(self.embed(tokens) + self.places(places.long() + 1))


class Masks(nn.Module):
    """As Wav2Vec 2.0 has it: in training, code that torch.export can't trace."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            x = x * torch.from_numpy(np.random.default_rng(0).random(len(x)) > 0.1)[:, None]
        return self.head(self.body(x))


def test_what_is_only_traceable_in_evaluation_still_has_dropout_and_batch_norms() -> None:
    pytest.importorskip("torchao")
    prepared, notes = with_fake_quantization(Masks(), given(torch.randn(6, 4)))
    assert "can't be exported as it is in training" in notes[0]
    prepared.train()
    x = torch.randn(64, 4)
    assert (prepared(x) - prepared(x)).abs().max() > 0.2, "dropout"
    means = dict(prepared.named_buffers())
    (mean,) = [value for name, value in means.items() if name.endswith("running_mean")]
    assert mean.abs().max() > 0, "the batch norm counts"
    prepared.eval()
    assert (prepared(x) - prepared(x)).abs().max() < 0.05, "only the scales still move"


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.one(left) + self.other(right)


class Padded(nn.Module):
    """Padding by its name, as EfficientNet and SigLIP have it; `same` on both sides and on one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 2, padding="same"), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding="same", dilation=2), nn.Conv2d(4, 2, 2, padding="valid"),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Standardized(nn.Conv2d):
    """As BiT has it: a batch norm without running statistics standardizes the weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(rows, None, None, training=True, eps=1e-6)
        return nn.functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


def test_lengths_that_vary_and_the_chosen_output_stay() -> None:
    """Texts of other lengths than the example's, and one token of one text."""
    pytest.importorskip("torchao")

    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head, self.other = nn.Embedding(9, 4), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
            weights = mask[..., None].float()
            pooled = (self.embed(tokens) * weights).sum(1) / weights.sum(1)
            return {"logits": self.head(pooled), "other": self.other(pooled)}

    model = choose_output(Texts(), "other")
    sample = {"tokens": torch.randint(0, 9, (3, 5)), "mask": torch.ones(3, 5, dtype=torch.int64)}
    free = [Varying(input=name, axis=1, name="length", least=3, most=5) for name in sample]
    prepared, _ = with_fake_quantization(model, given(sample, *free))
    for rows, length in ((2, 7), (1, 1)):
        tokens = torch.randint(0, 9, (rows, length))
        batch = {"tokens": tokens, "mask": torch.ones_like(tokens)}
        assert call_model(prepared, batch).shape == (rows, 3)
        assert list(outputs_for_loss(prepared, batch, every=True)) == ["logits", "other"]


def test_one_sample_is_evaluated_and_batch_norm_learns_from_more() -> None:
    """The export knows that batch norm can't take one sample in training, and guarded all."""
    pytest.importorskip("torchao")
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    prepared, _ = with_fake_quantization(model, given(torch.randn(6, 4)))
    prepared.eval()
    assert torch.isfinite(prepared(torch.randn(1, 4))).all()


class Unread(nn.Module):
    """As BigBird has it: a layer and its activation, whose output nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.pooler = nn.Linear(4, 2), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.tanh(self.pooler(x))
        return self.head(x)


@pytest.mark.parametrize(
    ("model", "sample"),
    [
        (Positions(), torch.randint(0, 9, (3, 5))),
        (Pair(), (torch.randn(3, 4), torch.randn(3, 3))),
        (Padded(), torch.randn(3, 3, 6, 5)),
        (Standardized(3, 4, 2), torch.randn(3, 3, 6, 5)),
        (Unread(), torch.randn(3, 4)),
    ],
    ids=["integers", "two inputs", "padding by name", "standardized weights", "unread"],
)
def test_what_is_rounded_is_near_the_float_model(model: nn.Module, sample: Any) -> None:
    pytest.importorskip("torchao")
    expected = called(model.eval(), sample).detach()
    prepared, notes = with_fake_quantization(model, given(sample))
    assert notes == []
    prepared.eval()
    found = called(prepared, sample).detach()
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_layer_that_no_output_depends_on_stays_as_it_is(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph that is trained has no such layer: its training ended with a KeyError."""
    pytest.importorskip("torchao")
    monkeypatch.setattr(actors, "fit", lambda job, work: train_loop(job, work.report))
    bench = Bench(project, tmp_path)
    model = {"factory": "odd_models:odd", "args": {"kind": "unused"}}
    torch.manual_seed(0)
    whole: Any = bench.allowed.call(model["factory"], model["args"], "model")
    (tmp_path / "start").mkdir()
    save_module(whole, [], tmp_path / "start")
    spec = {
        "model": model, "data": {"factory": "odd_data:tokens", "args": {}}, "seed": 0,
        "metric": "bits_per_token", "higher_is_better": False, "label": "v/p",
        "train": {"epochs": 1, "batch_size": 8}, "compression": {"kind": "qat", "epochs": 1},
    }  # fmt: skip
    start = bench.store.put(tmp_path / "start", "weights")
    done = bench.run("compress.qat:apply", spec, module=start)
    folder = bench.store.fetch(done.outputs["module"])
    made = load_module(Factory.model_validate(model), bench.allowed, folder)
    before, after = whole.state_dict(), made.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"scale", "spare.bias", "spare.weight"}, "frozen, or used by nothing"


@pytest.mark.parametrize(
    ("mesh", "data"),
    [
        ({"data": 2}, 2),
        ({"shard": 2}, 2),
        ({"data": 2, "tensor": 2}, 4),
        ({"shard": 2, "pipeline": 8}, 8),
        ({"data": {"min": 1, "max": 2}, "shard": 2}, {"min": 2, "max": 4}),
    ],
)
def test_the_graph_is_trained_on_as_many_workers_by_the_batch_alone(mesh: Any, data: Any) -> None:
    """Under FSDP its first step called itself without an end."""
    train = Train.model_validate({"epochs": 1, "batch_size": 8, "mesh": mesh,
                                  "parallel": {"pipeline": {"microbatches": 2}}})  # fmt: skip
    made = replicated(train)
    assert made.mesh == Mesh.model_validate({"data": data})
    assert Train.model_validate(made.model_dump()) == made
    assert (made is train) == (made.mesh == train.mesh)
