"""Each pass on a small real model: what it changes, what it keeps, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from prefect_hone.ray_workers.dispatch import Done
from prefect_hone.ray_workers.model.module import load_module
from prefect_hone.ray_workers.store.artifacts import Artifact
from prefect_hone.recipe.errors import HoneError, StepFailed, StoreError
from prefect_hone.recipe.load import load_recipe
from prefect_hone.recipe.model import Factory
from prefect_hone.recipe.passes import AccuracyControl
from prefect_hone.tasks.compress.schemes.accuracy import control, put_back, quantized_layers
from prefect_hone.tasks.compress.schemes.job import masking_nodes
from prefect_hone.tasks.compress.schemes.ranges import smallest_error
from steps_bench import BASE, Bench
from torch import nn

TRAIN = {
    "epochs": 2,
    "batch_size": 32,
    "optimizer": {"name": "adam", "lr": 0.01},
    "seed": 0,
    "loss": "cross_entropy",
}


@pytest.fixture(scope="module")
def bench(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared_project, tmp_path_factory.mktemp("bench"))


def run(bench: Bench, factory: str, module: Artifact | None = None, **fields: Any) -> Done:
    """A pass on the torch module."""
    spec = {
        **BASE, "model": {"factory": factory, "args": {}}, "compression": fields, "label": "v/p",
        "train": TRAIN, "higher_is_better": True,
    }  # fmt: skip
    name = fields["kind"].replace("-", "_")
    return bench.run(f"compress.{name}:apply", spec, module=module or bench.weights(factory))


def loaded(bench: Bench, factory: str, done: Done) -> nn.Module:
    folder = bench.store.fetch(done.outputs["module"])
    return load_module(Factory(factory=factory), bench.allowed, folder)


INT4 = {"scheme": "weight-int4", "group_size": 16, "skip_layers": ["first"]}
X = torch.randn(8, 13, generator=torch.Generator().manual_seed(0))


def test_channels_are_really_removed_and_the_module_comes_back(bench: Bench) -> None:
    pytest.importorskip("torch_pruning")
    done = run(bench, "wine_model:conv_net", kind="prune", method="channel", ratio=0.5)
    model = loaded(bench, "wine_model:conv_net", done)
    assert model.middle.weight.shape == (16, 16, 3, 3)
    assert model.head.weight.shape == (3, 16), "the outputs stay"
    assert model(X).shape == (8, 3)
    assert done.metrics["prune-channel/parameters_kept"] < 0.4
    assert done.metrics["prune-channel/flops_kept"] < 0.5
    assert done.facts["layers"]["middle"]["after"]["parameters"] == 16 * 16 * 9 + 16
    again = run(
        bench, "wine_model:conv_net", done.outputs["module"], kind="prune", method="channel",
        ratio=0.5,
    )  # fmt: skip
    assert loaded(bench, "wine_model:conv_net", again).middle.weight.shape == (8, 8, 3, 3)


@pytest.mark.parametrize("importance", ["taylor", "bn-scale"])
def test_importance_by_gradients_and_by_batch_norm(bench: Bench, importance: str) -> None:
    pytest.importorskip("torch_pruning")
    done = run(
        bench, "wine_model:conv_net", kind="prune", method="channel", ratio=0.5,
        importance=importance,
    )  # fmt: skip
    assert loaded(bench, "wine_model:conv_net", done)(X).shape == (8, 3)


@pytest.mark.parametrize("reach", ["flops", "parameters"])
def test_channels_are_removed_until_a_target_is_reached(bench: Bench, reach: str) -> None:
    pytest.importorskip("torch_pruning")
    done = run(
        bench, "wine_model:conv_net", kind="prune", method="channel", reach=reach, at_most=0.5,
        round_to=1,
    )  # fmt: skip
    assert 0.35 < done.metrics[f"prune-channel/{reach}_kept"] <= 0.5


def test_magnitude_and_two_of_four(bench: Bench) -> None:
    done = run(bench, "wine_model:net", kind="prune", method="magnitude", ratio=0.7)
    model = loaded(bench, "wine_model:net", done)
    zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.ndim == 2)
    assert zeros / sum(p.numel() for p in model.parameters() if p.ndim == 2) == pytest.approx(
        0.7, abs=0.01
    )
    done = run(bench, "wine_model:net", kind="prune", method="2:4")
    left = {one["layer"]: one["left_because"] for one in done.facts["coverage"]["layers"]}
    odd = "its 13 inputs are no multiple of four"
    assert left == {"first": odd, "second": None, "last": None}
    weight = loaded(bench, "wine_model:net", done).second.weight
    assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all()
    others = ["second", "last"]
    with pytest.raises(StepFailed, match=r"no layer has such: 'first' \(13\)"):
        run(bench, "wine_model:net", kind="prune", method="2:4", skip_layers=others)


def test_heads_and_units_of_a_transformer(bench: Bench) -> None:
    done = run(bench, "wine_model:encoder", kind="prune", method="transformer", heads=0.5, mlp=0.5)
    model = loaded(bench, "wine_model:encoder", done)
    assert model.num_heads == 2
    assert model.q_proj.weight.shape == (16, 32)
    assert model.out_proj.weight.shape == (32, 16)
    assert model.mlp["fc1"].weight.shape == (64, 32)
    assert model(X).shape == (8, 3)
    with pytest.raises(StepFailed, match="no attention block"):
        run(bench, "wine_model:net", kind="prune", method="transformer", heads=0.5)


def test_low_rank_with_all_the_energy_computes_the_same(bench: Bench) -> None:
    done = run(bench, "wine_model:net", kind="low-rank", budget=0.5)
    model = loaded(bench, "wine_model:net", done)
    assert isinstance(model.second, nn.Sequential)
    assert done.metrics["low-rank/parameters_kept"] < 0.8
    torch.manual_seed(0)
    whole = bench.allowed.call("wine_model:conv_net", {}, "model").eval()
    from prefect_hone.ray_workers.model.surgery import factorize

    expected = whole(X)
    factorize(whole, "middle", 32)  # the full rank
    assert torch.allclose(whole(X), expected, atol=1e-4)
    with pytest.raises(StepFailed, match="no layer would become smaller"):
        run(bench, "wine_model:net", kind="low-rank", energy=0.999999)


@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 8), nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)]
)
def test_a_layer_of_low_rank_has_what_models_ask_a_layer_for(layer: Any) -> None:
    """T5 and ViT ask for the type of its weight, MobileNet for its stride."""
    from prefect_hone.ray_workers.model.surgery import factorize

    model = nn.Sequential(layer)
    factorize(model, "0", min(layer.weight.flatten(1).shape))
    found: Any = model[0]
    assert torch.allclose(found.weight, layer.weight, atol=1e-5)
    assert found.weight.dtype == layer.weight.dtype
    assert (found.bias is None) is (layer.bias is None)
    for name in ("in_features", "out_features", "stride", "kernel_size", "out_channels", "none"):
        assert getattr(found, name, None) == getattr(layer, name, None)
    assert copy.deepcopy(found).state_dict().keys() == {
        name for name, _ in found.named_parameters()
    }


def test_a_module_whose_surgery_was_tampered_with_is_refused(bench: Bench, tmp_path: Path) -> None:
    done = run(bench, "wine_model:net", kind="low-rank", budget=0.5)
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in bench.store.fetch(done.outputs["module"]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "surgery.json").write_text('[{"op": "import", "module": "os"}]')
    with pytest.raises(StoreError, match="surgery can't be read"):
        load_module(Factory(factory="wine_model:net"), bench.allowed, folder)


# --- passes on the graph -------------------------------------------------------------------


def quantize(bench: Bench, factory: str, **fields: Any) -> tuple[Any, Any, Done]:
    """The float graph, the quantized one, and what the step said."""
    graph, calibration = bench.graph(factory)
    spec = {
        "compression": {"kind": "quantize", **fields},
        "judge": {**BASE, "higher_is_better": True},
    }
    done = bench.run("compress.quantize:apply", spec, graph=graph, calibration=calibration)
    both = [
        onnx.load(str(bench.store.fetch(a) / "model.onnx")) for a in (graph, done.outputs["graph"])
    ]
    return both[0], both[1], done


def outputs(graph: Any) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()  # what it would fuse of fp8 is wrong
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    return session.run(["output"], {"input": X.numpy()})[0]


def error(a: Any, b: Any) -> float:
    return float(np.linalg.norm(outputs(a) - outputs(b)) / np.linalg.norm(outputs(a)))


@pytest.mark.parametrize(
    ("factory", "fields", "largest"),
    [
        ("net", {"scheme": "static-int8", "calibration": "entropy"}, 0.3),
        ("net", {"scheme": "static-int8", "calibration": "mse"}, 0.2),
        ("net", {"scheme": "static-int8", "symmetric": True, "activations": "s8"}, 0.2),
        ("net", {"scheme": "static-int8", "per_channel": False}, 0.2),
        ("net", {"scheme": "static-int8", "engine": "nncf"}, 0.2),
        ("encoder", {"scheme": "static-int8", "engine": "nncf", "smooth_quant": 0.6}, 0.3),
        ("net", {"scheme": "dynamic-int8"}, 0.2),
        ("net", {"scheme": "weight-int8"}, 0.05),
        ("conv_net", {"scheme": "weight-int8"}, 0.05),
        ("net", INT4, 0.3),
        ("net", {**INT4, "algorithm": "awq"}, 0.3),
        ("net", {"scheme": "fp16"}, 0.01),
        ("net", {"scheme": "fp8"}, 0.2),
        ("conv_net", {"scheme": "fp8"}, 0.2),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_every_scheme_changes_the_numbers_a_little(
    bench: Bench, factory: str, fields: dict, largest: float
) -> None:
    if fields.get("engine") == "nncf" or fields["scheme"] == "weight-int4":
        pytest.importorskip("nncf")
    before, after, _ = quantize(bench, f"wine_model:{factory}", **fields)
    assert 0 < error(before, after) < largest
    assert after.ByteSize() < before.ByteSize() * 1.6


@pytest.mark.parametrize(
    ("factory", "fields"),
    [
        ("conv_net", {"scheme": "static-int8"}),
        ("net", {"scheme": "static-int8", "per_channel": False}),
        ("conv_net", {"scheme": "static-int8", "engine": "nncf"}),
        ("net", {"scheme": "dynamic-int8"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("reduced", [True, False])
def test_weights_of_7_bits_leave_room_for_sums_of_products(
    bench: Bench, factory: str, fields: dict, reduced: bool
) -> None:
    if fields.get("engine") == "nncf":
        pytest.importorskip("nncf")
    _, after, done = quantize(bench, f"wine_model:{factory}", **fields, reduce_range=reduced)
    weights = [
        numpy_helper.to_array(item)
        for item in after.graph.initializer
        if item.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) and len(item.dims) > 1
    ]
    assert weights
    largest = max(int(np.abs(weight.astype(np.int16)).max()) for weight in weights)
    assert (largest <= 64) is reduced
    assert done.params["quantize/weight_bits"] == (7 if reduced else 8)
    assert done.params["quantize/reduce_range"] is reduced
    assert done.params["quantize/processor"]


def test_int4_on_convolutions_and_wishes_that_a_target_can_not_fulfil(bench: Bench) -> None:
    graph, calibration = bench.graph("wine_model:conv_net")
    spec = {"kind": "quantize", "scheme": "weight-int4", "skip_layers": ["head"]}
    with pytest.raises(StepFailed, match="not in convolutions: 'stem', 'middle'"):
        bench.run(
            "compress.quantize:apply", {"compression": spec}, graph=graph, calibration=calibration
        )
    for scheme, said in (("bf16", "no bf16 kernels"), ("fp8", "does not support fp8")):
        wish = {"kind": "quantize", "scheme": scheme}
        done = bench.run("compress.quantize:apply", {"compression": wish}, graph=graph,
                         calibration=calibration)  # fmt: skip
        target = {"target": {"kind": "onnxruntime-cpu"}}
        with pytest.raises(StepFailed, match=said):
            bench.run("compile.onnxruntime_cpu:compile_graph", target, graph=done.outputs["graph"])


@pytest.mark.parametrize(("bounded_by", "left"), [("Softmax", False), ("ReduceMax", False),
                                                   ("Relu", True), ("Clip", True)])  # fmt: skip
def test_a_masks_huge_numbers_are_left_in_float_until_they_are_bounded(
    bounded_by: str, left: bool
) -> None:
    make, mask = onnx.helper.make_node, np.array([0.0, -3e38], np.float32)
    nodes = [make("Add", ["x", "mask"], ["masked"], name="add"),
             make(bounded_by, ["masked"], ["bounded"], name="bound"),
             make("MatMul", ["bounded", "weight"], ["y"], name="product")]  # fmt: skip
    graph = onnx.helper.make_graph(
        nodes, "masked", [], [],
        [onnx.numpy_helper.from_array(mask, "mask"),
         onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "weight")],
    )  # fmt: skip
    found = masking_nodes(onnx.helper.make_model(graph))
    assert found[:2] == ["add", "bound"]
    assert ("product" in found) == left


def test_fold_keeps_what_the_graph_computes(bench: Bench) -> None:
    graph, _ = bench.graph("wine_model:conv_net")
    done = bench.run("compress.fold:apply", {"compression": {"kind": "fold"}}, graph=graph)
    before, after = (
        onnx.load(str(bench.store.fetch(a) / "model.onnx")) for a in (graph, done.outputs["graph"])
    )
    assert error(before, after) < 1e-5
    assert len(after.graph.node) <= len(before.graph.node)


def test_put_back_layers_compute_in_float_again(bench: Bench) -> None:
    before, after, _ = quantize(
        bench, "wine_model:net", scheme="static-int8", accuracy_control={"at_most": 9.0}
    )
    layers = quantized_layers(after)
    assert {"first", "second", "last"} <= set(layers)
    assert error(before, put_back(after, before, layers)) < 1e-5, "all back is the float graph"
    some = put_back(after, before, ["second"])
    assert "second" not in quantized_layers(some)
    assert error(before, some) > 0


def test_accuracy_control_puts_back_as_few_as_hold(bench: Bench) -> None:
    before, after, _ = quantize(
        bench, "wine_model:net", scheme="static-int8", accuracy_control={"at_most": 9.0}
    )
    inputs = {"input": X.numpy()}

    def drop(graph: Any) -> float:  # the error stands for a loss of quality
        return error(before, graph)

    alone = [drop(put_back(after, before, [layer])) for layer in quantized_layers(after)]
    limit = 1.01 * min(alone)  # what layers lose depends on the processor: VNNI has 8-bit weights
    found = control(after, before, inputs, drop, AccuracyControl(at_most=limit), lambda *_: None)
    assert found.holds
    assert drop(found.graph) <= limit < found.before
    assert 0 < len(found.put_back) < len(found.sensitivity)
    order = sorted(found.sensitivity, key=lambda layer: found.sensitivity[layer])
    assert found.put_back == order[: len(found.put_back)], "the most sensitive first"
    fine = control(after, before, inputs, drop, AccuracyControl(at_most=9), lambda *_: None)
    assert fine.put_back == []


def test_accuracy_control_in_a_step_draws_the_sensitivity(bench: Bench) -> None:
    _, _, done = quantize(
        bench, "wine_model:net", scheme="static-int8", accuracy_control={"at_most": 0.0}
    )
    folder = bench.store.fetch(done.outputs["sensitivity"])
    assert (folder / "sensitivity.png").stat().st_size > 5000
    assert set(done.facts["sensitivity_db"]) >= {"first", "second", "last"}
    assert done.metrics["quantize/validation_drop"] <= 0.0


def test_the_range_of_least_error_cuts_outliers() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=1_000_000), [20.0]])
    counts, edges = np.histogram(values, 2048)
    low, high = smallest_error(counts, edges, values.min(), values.max(), symmetric=False)
    assert high < 16
    low, high = smallest_error(counts, edges, values.min(), values.max(), symmetric=True)
    assert low == -high


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ("[{kind: fold}, {kind: low-rank, budget: 0.5}]", "can't follow 'fold'"),
        ("[{kind: prune, method: channel}]", "give either ratio, or reach and at_most"),
        ("[{kind: prune, method: channel, ratioo: 0.5}]", "did you mean 'ratio'?"),
        ("[{kind: quantize, scheme: static-int8, smooth_quant: 0.5}]", "needs engine nncf"),
        ("[{kind: quantize, scheme: static}]", "did you mean 'static-int8'?"),
        ("[{kind: low-rank}]", "give either energy or budget"),
        ("[{kind: distill, factory: nowhere, epochs: 1}]", "import path"),
    ],
)
def test_impossible_chains_are_refused_at_load(passes: str, said: str) -> None:
    with pytest.raises(HoneError) as caught:
        load_recipe("digits", [f"variants.int8.passes={passes}"])
    assert said in str(caught.value)


@pytest.mark.nightly
def test_a_chain_that_trains_on_ray_ends_with_a_smaller_champion(hone, project: Path) -> None:
    """Distil, then prune, then QAT, then int8: each trains on the recipe's mesh."""
    pytest.importorskip("torch_pruning")
    pytest.importorskip("torchao")
    passes = (
        "[{kind: distill, factory: 'wine_model:conv_net', args: {width: 16}, epochs: 4, "
        "hidden: [{teacher: stem, student: stem}]}, "
        "{kind: prune, method: channel, ratio: 0.5, recover_epochs: 3, recover_teacher: true}, "
        "{kind: qat, epochs: 2}, {kind: quantize, scheme: static-int8}]"
    )
    outcome = hone.json(
        "run", str(project / "recipe.yaml"), "--set", "model.factory=wine_model:conv_net",
        "--set", "model.args={width: 64}", "--set", "train.mesh.data=2",
        "--set", "train.epochs=6", "--set", "gates=[{metric: quality.drop, at_most: 0.2}]",
        "--set", f"variants=[{{name: fp32}}, {{name: small, passes: {passes}}}]",
    )  # fmt: skip
    by_name = {c["name"]: c for c in outcome["candidates"]}
    small = by_name["small@onnxruntime-cpu"]
    assert small["status"] == "passed", small
    whole = by_name["fp32@onnxruntime-cpu"]["metrics"]
    assert small["metrics"]["size/bytes"] < whole["size/bytes"] / 5
