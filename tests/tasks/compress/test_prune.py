"""Pruning says of each layer what it did, prunes what it can, and refuses to do nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.model.module import load_module
from prefect_hone.ray_workers.model.surgery import reshape, reshaped, shapes
from prefect_hone.ray_workers.model.transposed_linear import make_linear, transposed_layers
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


def test_heads_keep_their_width_whichever_runs_last(bench: Bench) -> None:
    model, _ = prune(bench, "prunable_models:detector", ratio=0.5, round_to=4)
    shapes = {name: tuple(value.shape[1:]) for name, value in model(X).items()}
    assert shapes == {"hidden": (16,), "classes": (24,), "boxes": (16,)}


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


def test_layers_that_fit_each_other_only_if_one_stays_whole(bench: Bench) -> None:
    model, done = prune(bench, "prunable_models:paired", ratio=0.5)
    assert model(X).shape == (8, 3)
    widths = [getattr(model, name).out_features for name in ("first", "second", "third")]
    assert widths == [16, 32, 16]
    assert done.facts["coverage"]["layers"][1]["weights"] == 13 * 32 + 32
    assert reasons(done)["second"] == "the layers that it works with would no longer fit it"


def test_a_layer_that_torch_pruning_fails_at_costs_no_other(bench: Bench) -> None:
    """It weighs all layers' channels, also to prune one: each seemed to fail."""
    model, _ = prune(bench, "prunable_models:joined", ratio=0.5)
    assert model(X).shape == (8, 3)
    assert (model.joined.in_features, model.joined.out_features) == (16, 96)
    assert (model.wide.in_features, model.wide.out_features) == (16, 32)


def test_tokens_that_are_split_and_concatenated_are_no_channels(bench: Bench) -> None:
    """torch-pruning failed: "list index out of range", "'NoneType' object is not iterable"."""
    model, done = prune(bench, "prunable_models:tokens", ratio=0.5)
    assert model(X)["logits"].shape == (8, 3)
    assert model.wide.out_features == 32
    assert reasons(done)["wide"] is None


def test_a_block_that_has_attention_and_an_mlp_side_by_side(bench: Bench) -> None:
    model, done = prune(bench, "prunable_models:joint", method="transformer", heads=0.5, mlp=0.5)
    assert (model.q.out_features, model.o.in_features, model.num_heads) == (16, 16, 2)
    assert (model.up.out_features, model.down.in_features) == (32, 32)
    assert model(X).shape == (8, 3)
    assert reasons(done)["q"] is reasons(done)["up"] is None


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("factory", ["normed_weights", "normed_by_hooks"])
@pytest.mark.parametrize("method", ["channel", "magnitude"])
def test_weights_that_are_computed_become_plain_ones(
    bench: Bench, factory: str, method: str
) -> None:
    """torch-pruning could follow none of them."""
    model, done = prune(bench, f"prunable_models:{factory}", method=method, ratio=0.5)
    assert model(X).shape == (8, 3)
    assert {name.rpartition(".")[2] for name in model.state_dict()} == {"weight", "bias"}
    if method == "magnitude":
        weights = torch.cat([model[i].weight.flatten() for i in (0, 2, 4)])
        assert (weights == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    else:
        assert (model[2].in_features, model[2].out_features) == (16, 16)
    assert reasons(done)["0"] is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["channel", "magnitude", "transformer"])
def test_a_gpt_2_whose_linear_layers_are_transposed(bench: Bench, method: str) -> None:
    pytest.importorskip("transformers")
    fields = {"mlp": 0.5} if method == "transformer" else {"ratio": 0.5}
    model, done = prune(bench, "prunable_models:transposed", method=method, **fields)
    assert model(X).shape == (8, 3)
    mlp = model.body.h[0].mlp
    if method == "magnitude":
        assert (mlp.c_fc.weight == 0).float().mean() > 0.4
    else:
        assert (mlp.c_fc.out_features, mlp.c_proj.in_features) == (64, 64), "of 128"
    assert reasons(done)["body.h.0.mlp.c_fc"] is None


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
    """Of layers of their own, under ALBERT's names."""

    def __init__(self) -> None:
        super().__init__()
        self.num_attention_heads = 4
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.dense = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.dense(found.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.ffn, self.ffn_output = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ffn_output(torch.relu(self.ffn(self.attention(x))))


def test_transformer_pruning_says_what_it_needs() -> None:
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5, mlp=0.5)
    with pytest.raises(StepFailed, match="no attention block with known layer names") as caught:
        prune_widths(spec, nn.Linear(4, 4), None)
    assert "method: channel prunes models of any layers" in str(caught.value.do)


class Joined(nn.Module):
    """Attention whose query, key and value are one layer.

    Args:
        order: Of its rows: `parts` as timm's and GPT-2's, `heads` as BLOOM's and GPT-NeoX's.
        fixed: Whether the code fixes the number of heads.
    """

    def __init__(self, order: str, fixed: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim, self.order = 4, 4, 16, order
        self.qkv, self.mlp, self.proj = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 16)
        self.fixed = fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = 4 if self.fixed else self.num_heads
        if self.order == "parts":
            q, k, v = self.qkv(x).unflatten(-1, (3, heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = self.qkv(x).unflatten(-1, (heads, 3, self.head_dim)).permute(3, 0, 2, 1, 4)
        found = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.mlp(self.proj(found.reshape(*x.shape[:2], self.attn_dim)))


@pytest.mark.parametrize("order", ["parts", "heads"])
def test_heads_of_a_joined_layer_are_removed_in_the_order_that_the_model_has(order: str) -> None:
    whole = Joined(order).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        whole.proj.weight[:, 4:12] *= 1e-3  # the heads that matter least
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    made: Any = prune_widths(spec, copy.deepcopy(whole), x)
    assert (made.qkv.out_features, made.proj.in_features) == (24, 8)
    assert (made.num_heads, made.attn_dim) == (2, 8)
    with torch.no_grad():
        whole.proj.weight[:, 4:12] = 0
        assert torch.allclose(made(x), whole(x), atol=1e-6)


def test_a_joined_layer_whose_heads_the_code_fixes_is_named_and_left_as_it_was() -> None:
    model = Joined("parts", fixed=True).eval()
    before = copy.deepcopy(model.state_dict())
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    with pytest.raises(StepFailed, match="the heads of 'qkv' can't be removed") as caught:
        prune_widths(spec, model, torch.randn(2, 5, 16))
    assert "method: channel" in str(caught.value.do)
    assert (model.num_heads, model.attn_dim, model.qkv.out_features) == (4, 16, 48)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    del model.num_heads, model.head_dim
    with pytest.raises(StepFailed, match="their number is not known"):
        prune_widths(spec, model, None)


def test_gpt2s_heads_are_removed_and_the_model_is_made_anew() -> None:
    """Its layers are transposed, and `split_size` holds the width of a part."""
    from transformers import GPT2Config, GPT2Model

    small = {"n_embd": 16, "n_head": 4, "n_layer": 2, "vocab_size": 20, "n_positions": 8}
    whole = GPT2Model(GPT2Config(**small)).eval()
    make_linear(whole, transposed_layers(whole))
    tokens = torch.randint(0, 20, (2, 6))
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    was = shapes(whole)
    made: Any = prune_widths(spec, copy.deepcopy(whole), {"input_ids": tokens})
    assert [block.attn.c_attn.out_features for block in made.h] == [24, 24]
    again: Any = GPT2Model(GPT2Config(**small)).eval()
    make_linear(again, transposed_layers(again))
    reshape(again, reshaped(was, made).layers)
    again.load_state_dict(made.state_dict())
    with torch.no_grad():
        expected = made(tokens).last_hidden_state
        assert torch.allclose(again(tokens).last_hidden_state, expected, atol=1e-6)


def test_alberts_names_are_known_to_transformer_pruning() -> None:
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5, mlp=0.5)
    made: Any = prune_widths(spec, Layer(), torch.randn(2, 5, 16))
    assert made.attention.query.out_features == made.attention.dense.in_features == 8
    assert made.ffn.out_features == made.ffn_output.in_features == 32
    assert made.attention.num_attention_heads == 2


class Grouped(nn.Module):
    """Attention whose heads of queries share keys, as Llama, Mistral, Qwen and Gemma have it."""

    head_dim = 4

    def __init__(self, heads: int, keys: int) -> None:
        super().__init__()
        self.num_key_value_groups = heads // keys
        self.q_proj = nn.Linear(16, heads * 4)
        self.k_proj, self.v_proj = (nn.Linear(16, keys * 4) for _ in range(2))
        self.o_proj = nn.Linear(heads * 4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (-1, 4)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        k, v = (part.repeat_interleave(self.num_key_value_groups, 1) for part in (k, v))
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.o_proj(found.transpose(1, 2).flatten(2))


def test_grouped_queries_are_removed_with_their_key() -> None:
    """What is left is what the whole attention gives without the removed heads' outputs."""
    whole = Grouped(heads=6, keys=3)
    with torch.no_grad():
        whole.o_proj.weight[:, 8:16] *= 1e-3  # the heads of the second key matter least
    spec = PruneWidths(kind="prune", method="transformer", heads=0.34)
    x = torch.randn(2, 5, 16)
    made: Any = prune_widths(spec, copy.deepcopy(whole), x)
    layers = (made.q_proj, made.k_proj, made.v_proj)
    assert [layer.out_features for layer in layers] == [16, 8, 8]
    with torch.no_grad():
        whole.o_proj.weight[:, 8:16] = 0
        assert torch.allclose(made(x), whole(x), atol=1e-6)


@pytest.mark.parametrize(
    ("heads", "keys", "said"),
    [(4, 1, "share one key, so none can be removed"), (6, 4, "don't fit its query, key and value")],
)
def test_heads_that_cannot_be_removed_are_named(heads: int, keys: int, said: str) -> None:
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    with pytest.raises(StepFailed, match=f"{heads} heads of 'o_proj' {said}") as caught:
        prune_widths(spec, Grouped(heads, keys), None)
    assert "prune only mlp" in str(caught.value.do)


def transformer(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Models with a bias for each head: of all layers of a stack, of each layer, by its number."""
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 32, "vocab_size": 20}  # fmt: skip
    tokens = {"input_ids": torch.randint(2, 20, (2, 7))}
    if name == "t5":
        config = transformers.T5Config(
            vocab_size=20, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4
        )
        return transformers.T5Model(config), {**tokens, "decoder_input_ids": tokens["input_ids"]}
    if name == "mpnet":
        return transformers.MPNetModel(transformers.MPNetConfig(**small)), tokens
    if name == "mpt":
        config = transformers.MptConfig(d_model=16, n_heads=4, n_layers=2, vocab_size=20)
        return transformers.MptModel(config), tokens
    swin = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=16, depths=[2, 1], num_heads=[4, 4], window_size=4
    )
    return transformers.SwinModel(swin), {"pixel_values": torch.randn(2, 3, 16, 16)}


@pytest.mark.parametrize("name", ["t5", "mpnet", "swin"])
def test_a_bias_for_each_head_goes_with_its_head(name: str) -> None:
    torch.manual_seed(0)
    whole, inputs = transformer(name)
    for parameter in whole.parameters():  # else the tables are zero
        nn.init.normal_(parameter, std=0.3)
    tables = {n: p.shape for n, p in whole.named_parameters() if "relative" in n}
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    made = prune_widths(spec, copy.deepcopy(whole).eval(), inputs)
    now = {n: p.shape for n, p in made.named_parameters() if "relative" in n}
    assert tables
    assert now == {n: (*shape[:-1], 2) for n, shape in tables.items()}
    with torch.no_grad():
        assert torch.isfinite(made(**inputs)[0]).all()


def test_heads_that_the_model_counts_elsewhere_are_refused() -> None:
    """MPT makes its biases from a number that no layer has."""
    whole, inputs = transformer("mpt")
    spec = PruneWidths(kind="prune", method="transformer", heads=0.5)
    with pytest.raises(StepFailed, match="can't be removed"):
        prune_widths(spec, whole.eval(), inputs)
