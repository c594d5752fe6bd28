"""Pruning says of each layer what it did, prunes what it can, and refuses to do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.model.module import load_module
from prefect_hone.recipe.errors import NothingChanged, StepFailed
from prefect_hone.recipe.model import Factory
from prefect_hone.recipe.passes import PruneWidths
from prefect_hone.tasks.compress.widths import prune_widths
from steps_bench import BASE, Bench
from torch import nn

TRAIN = {"epochs": 2, "batch_size": 32, "loss": "cross_entropy",
         "optimizer": {"name": "adam", "lr": 0.01}}  # fmt: skip
X = torch.randn(8, 13, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bench(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared_project, tmp_path_factory.mktemp("bench"))


def prune(bench: Bench, factory: str, **fields: Any) -> tuple[nn.Module, Done]:
    if fields.get("method", "channel") == "channel":
        pytest.importorskip("torch_pruning")
    spec = {
        **BASE, "model": {"factory": factory, "args": {}}, "label": "v/p", "train": TRAIN,
        "higher_is_better": True, "compression": {"kind": "prune", "method": "channel", **fields},
    }  # fmt: skip
    done = bench.run("compress.prune:apply", spec, module=bench.weights(factory))
    folder = bench.store.fetch(done.outputs["module"])
    return load_module(Factory(factory=factory), bench.allowed, folder), done


def reasons(done: Done) -> dict[str, str | None]:
    return {one["layer"]: one["left_because"] for one in done.facts["coverage"]["layers"]}


def test_a_recurrent_layer_reads_fewer_channels_and_keeps_its_own(bench: Bench) -> None:
    model, done = prune(bench, "prunable_models:recurrent", ratio=0.5)
    assert model(X).shape == (8, 3)
    assert model.wide.out_features == 32
    assert model.memory.hidden_size == 16
    assert model.stem.out_channels == model.memory.input_size == 8
    assert set(reasons(done).values()) == {None}


def test_a_view_with_a_width_in_the_code_keeps_its_layer_and_is_named(bench: Bench) -> None:
    model, done = prune(bench, "prunable_models:baked", ratio=0.5)
    assert model(X).shape == (8, 3)
    assert model.first.out_features == 32
    assert model.second.out_features == 64
    assert reasons(done)["first"] is None
    assert done.metrics["prune/coverage"] > 0.5


@pytest.mark.slow
def test_channels_that_are_turned_by_rotary_embeddings_end_the_search(bench: Bench) -> None:
    """torch-pruning's search for what they are connected to never ended (Llama, Qwen, Phi)."""
    pytest.importorskip("transformers")
    model, done = prune(bench, "prunable_models:rotary", ratio=0.5)
    assert model(X).shape == (8, 3)
    layer = model.body.layers[0]
    assert layer.mlp.gate_proj.out_features == 32, "of 64"
    assert layer.self_attn.k_proj.weight.shape == (16, 16), "of (16, 32)"
    assert done.metrics["prune-channel/parameters_kept"] < 0.5


def test_frozen_layers_are_pruned_by_their_gradients_and_stay_frozen(bench: Bench) -> None:
    model, done = prune(bench, "prunable_models:frozen", ratio=0.5, importance="taylor")
    assert model.first.out_features == 16
    assert not model.first.weight.requires_grad
    assert model.head.weight.requires_grad
    assert reasons(done) == {"first": None, "second": None, "head": None}


def test_a_model_that_is_too_narrow_is_unchanged_before_it_trains(bench: Bench) -> None:
    with pytest.raises(NothingChanged, match=r"nothing was pruned: first.*round_to 8 leaves all"):
        prune(bench, "prunable_models:narrow", ratio=0.5, recover_epochs=5)


def test_a_ratio_that_leaves_most_layers_whole_says_so(bench: Bench) -> None:
    skipped = ["first", "second"]
    _, done = prune(bench, "prunable_models:baked", ratio=0.5, skip_layers=skipped)
    assert done.metrics["prune/coverage"] < 0.6
    assert "would be with every layer pruned" in str(done.notes)


def test_heads_of_torchs_own_attention_are_refused_by_name_and_its_mlp_is_pruned(
    bench: Bench,
) -> None:
    with pytest.raises(StepFailed, match=r"'layer.self_attn' is an nn.MultiheadAttention, whose"):
        prune(bench, "prunable_models:encoder", method="transformer", heads=0.5)
    model, done = prune(bench, "prunable_models:encoder", method="transformer", mlp=0.5)
    assert model.layer.linear1.out_features == 32
    assert model(X).shape == (8, 3)
    assert reasons(done)["layer.linear2"] is None


class Attention(nn.Module):
    """As timm has it, or with layers of their own under ALBERT's names."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.num_attention_heads = 4
        if joined:
            self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        else:
            self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
            self.dense = nn.Linear(16, 16)


class Layer(nn.Module):
    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.attention = Attention(joined)
        self.ffn, self.ffn_output = nn.Linear(16, 64), nn.Linear(64, 16)


def test_transformer_pruning_names_a_layer_that_joins_query_key_and_value() -> None:
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5, mlp=0.5)
    with pytest.raises(StepFailed, match=r"'attention\.qkv' computes query, key and value in one"):
        prune_widths(spec, Layer(True))
    with pytest.raises(StepFailed, match="no attention block with known layer names") as caught:
        prune_widths(spec, nn.Linear(4, 4))
    assert "method: channel prunes models of any layers" in str(caught.value.do)


def test_alberts_names_are_known_to_transformer_pruning() -> None:
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5, mlp=0.5)
    made: Any = prune_widths(spec, Layer(False))
    assert made.attention.query.out_features == made.attention.dense.in_features == 8
    assert made.ffn.out_features == made.ffn_output.in_features == 32
    assert made.attention.num_attention_heads == 2
