"""Every step but training, run in this process on a small model: what it gives and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from prefect_hone.ray_workers.data import asking
from prefect_hone.ray_workers.dispatch import Done, StepJob, execute
from prefect_hone.ray_workers.store.artifacts import Artifact
from prefect_hone.ray_workers.store.file_names import STATISTICS
from prefect_hone.recipe.errors import HoneError, InputError, StepFailed
from prefect_hone.recipe.training import Train
from prefect_hone.runtimes.onnxruntime_runtime import load
from prefect_hone.runtimes.proof import Proof
from prefect_hone.tasks.specs.check import LOOKED_AT, looked_at
from prefect_hone.tasks.steps import BASELINE_LOADER
from safetensors.numpy import load_file
from safetensors.torch import save_model
from steps_bench import BASE, MODEL, Bench, InMemory


@pytest.fixture(scope="module")
def bench(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared_project, tmp_path_factory.mktemp("bench"))


def quantize(bench: Bench, graph: Artifact, calibration: Artifact, **options: Any) -> Done:
    spec = {"compression": {"kind": "quantize", "scheme": "static-int8", **options}}
    return bench.run("compress.quantize:apply", spec, graph=graph, calibration=calibration)


def test_inputs_that_fit_no_corruption_are_refused_early_if_the_recipe_asks(bench: Bench) -> None:
    with pytest.raises(InputError, match="tokens are 2-D integers") as refused:
        bench.check(proofs={"kind": "tokens"})
    assert refused.value.where == "proofs.kind"
    with pytest.raises(InputError, match="no input 'image'"):
        bench.check(proofs={"input": "image"})


def test_groups_that_the_data_do_not_have_are_refused_early(bench: Bench) -> None:
    with pytest.raises(InputError, match="the data have no 'sex' to group by") as refused:
        bench.check(groups=["sex"])
    assert refused.value.where == "quality.groups"


@pytest.mark.parametrize("step", ["robustness", "explanation"])
def test_inputs_that_fit_no_corruption_are_told_if_the_recipe_does_not_ask(
    bench: Bench, step: str
) -> None:
    spec = {**BASE, "proofs": {"kind": "tokens"}}
    trained = bench.run(f"validate.{step}:trained", spec, weights=bench.weights())
    assert "no input is of a kind" in trained.facts["not_looked_at"]
    (empty,) = trained.outputs.values()
    opened = {"loader": "none:none", "environment": None}
    turned = {"higher_is_better": True} if step == "robustness" else {}
    done = bench.run(f"validate.{step}:candidate", {**spec, **opened, **turned}, model=empty)
    assert done.facts["not_looked_at"] == trained.facts["not_looked_at"]
    assert done.metrics == {}


def test_check_describes_what_later_steps_need(bench: Bench) -> None:
    facts = bench.check().facts
    assert facts["inputs"] == {"input": {"shape": [13], "dtype": "float32"}}
    assert facts["output"]["shape"] == [3]
    assert facts["data"]["sizes"]["test"] == 40


def test_an_onnx_graph_can_not_be_trained(bench: Bench) -> None:
    graph, _ = bench.graph()
    path = bench.store.fetch(graph) / "model.onnx"
    model = {"factory": "prefect_hone.ray_workers.model.incoming:read", "args": {"path": str(path)}}
    with pytest.raises(InputError, match="an ONNX graph can't be trained"):
        bench.check(model=model)
    facts = bench.check(model=model, train={"epochs": 0, "batch_size": 16}).facts
    assert facts["output"]["shape"] == [3]
    assert facts["parameters"] > 13 * 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"factory": "wine_model:raises", "args": {}}}, "ValueError: no such weights"),
        ({"model": {"factory": "wine_model:net", "args": {"widht": 3}}}, "unexpected keyword"),
        ({"model": {"factory": "wine_model:not_a_module", "args": {}}}, "expected a torch.nn.Mod"),
        ({"model": {"factory": "wine_model:nett", "args": {}}}, "did you mean 'net'?"),
        ({"model": {"factory": "wine_modle:net", "args": {}}}, "outside the allowed"),
        (
            {"model": {"factory": "wine_model:net", "args": {"outputs": 2}}},
            "can't take the model's",
        ),
        ({"data": {"factory": "wine_data:wine", "args": {"fault": "empty"}}}, "split is empty"),
        ({"data": {"factory": "wine_data:wine", "args": {"fault": "raises"}}}, "/data/wine.csv"),
        ({"data": {"factory": "wine_data:wine", "args": {"fault": "not data"}}}, "prefect_hone.D"),
        ({"data": {"factory": "wine_data:wine", "args": {"fault": "not pairs"}}}, "a pair"),
        (
            {"data": {"factory": "wine_data:wine", "args": {"calibration": "overlap"}}},
            "5 samples of the calibration split are also in the test split",
        ),
        (
            {"data": {"factory": "wine_data:wine", "args": {"calibration": "other shape"}}},
            "calibration has float32, shape (13, 1)",
        ),
        (
            {"train": {"epochs": 1, "batch_size": 8, "loss": "mse"}},
            "output and target differ in shape",
        ),
        ({"metric": "r2"}, "can't judge"),
    ],
)
def test_check_refuses_what_can_not_work(bench: Bench, changed: dict, said: str) -> None:
    with pytest.raises(InputError) as caught:
        bench.check(**changed)
    assert said in str(caught.value)
    assert caught.value.where
    assert "Traceback" not in str(caught.value)


def test_weights_of_another_model_are_refused(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_model(bench.allowed.call("wine_model:net", {"width": 8}, "model"), str(other))
    with pytest.raises(InputError, match="the weights can't be loaded") as caught:
        bench.check(model={**MODEL, "weights": str(other)})
    assert caught.value.where == f"model.weights: {other}"


def test_the_exported_graph_computes_the_same(bench: Bench) -> None:
    graph, _ = bench.graph()
    done = bench.run(
        "compile.onnxruntime_cpu:compile_graph",
        {"target": {"kind": "onnxruntime-cpu"}},
        graph=graph,
    )
    from prefect_hone.runtimes.onnxruntime_runtime import load

    x = np.random.default_rng(0).normal(size=(7, 13)).astype(np.float32)
    found = load(bench.store.fetch(done.outputs["model"]), {"threads": 1})({"input": x})
    bench.weights()
    model = bench.allowed.call("wine_model:net", {}, "model")
    from safetensors.torch import load_model

    load_model(model, str(bench.folder / "weights/model.safetensors"))
    assert np.allclose(found, model(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_the_graph_tells_layers_and_no_paths_of_the_machine(bench: Bench) -> None:
    graph, _ = bench.graph()
    path = bench.store.fetch(graph) / "model.onnx"
    assert str(bench.folder).encode() not in path.read_bytes()
    props = [p.value for node in onnx.load(path).graph.node for p in node.metadata_props]
    assert {"first", "second", "last"} <= set(props)


def test_an_operator_that_can_not_be_exported_is_named(bench: Bench) -> None:
    with pytest.raises(StepFailed) as caught:
        bench.graph("wine_model:branching")
    assert "can't be exported" in str(caught.value)
    assert "wine_model.py" in str(caught.value), "the line of the model is named"


def test_int8_is_smaller_and_near(bench: Bench) -> None:
    graph, calibration = bench.graph()
    done = quantize(bench, graph, calibration)
    assert done.params["quantize/layers"] == 3
    assert done.params["quantize/layers_left_in_float"] == 0
    operators = {
        n.op_type
        for n in onnx.load(bench.store.fetch(done.outputs["graph"]) / "model.onnx").graph.node
    }
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_a_layer_can_be_left_in_float(bench: Bench) -> None:
    graph, calibration = bench.graph()
    done = quantize(bench, graph, calibration, skip_layers=["second"])
    assert done.params["quantize/layers_left_in_float"] == 1
    assert done.facts["left_in_float"] == [["second", "Gemm"]]


def test_a_layer_that_does_not_exist_is_named(bench: Bench) -> None:
    graph, calibration = bench.graph()
    with pytest.raises(StepFailed, match=r"did you mean .second.\?"):
        quantize(bench, graph, calibration, skip_layers=["secnod"])


def test_a_model_without_layers_to_quantize_says_what_it_has(bench: Bench) -> None:
    graph, calibration = bench.graph("wine_model:no_layers")
    with pytest.raises(StepFailed, match=r"nothing to quantize.*ReduceSum"):
        quantize(bench, graph, calibration)


@pytest.mark.parametrize("kind", ["onnxruntime-cpu", "openvino-cpu"])
def test_a_target_compiles_and_serves_any_batch(bench: Bench, kind: str) -> None:
    pytest.importorskip(kind.removesuffix("-cpu"))
    graph, calibration = bench.graph()
    quantized = quantize(bench, graph, calibration).outputs["graph"]
    module = kind.replace("-", "_")
    import importlib

    load = importlib.import_module(f"prefect_hone.tasks.compile.{module}").load
    outputs = []
    for source in (graph, quantized):
        done = bench.run(
            f"compile.{module}:compile_graph", {"target": {"kind": kind}}, graph=source
        )
        run = load(bench.store.fetch(done.outputs["model"]), {"threads": 1})
        for size in (1, 5):
            x = np.random.default_rng(size).normal(size=(size, 13)).astype(np.float32)
            assert run({"input": x}).shape == (size, 3)
        outputs.append(run({"input": x}).copy())
    error = np.linalg.norm(outputs[0] - outputs[1]) / np.linalg.norm(outputs[0])
    assert 0 < error < 0.2, "int8 differs, but little"


@pytest.mark.parametrize("kind", ["onnxruntime-cpu", "openvino-cpu"])
def test_a_graph_with_an_unknown_operator_fails_with_its_name(
    bench: Bench, kind: str, tmp_path: Path
) -> None:
    pytest.importorskip(kind.removesuffix("-cpu"))
    node = onnx.helper.make_node("NoSuchOperator", ["input"], ["output"], domain="my.domain")
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [tensor("input", 1, ["b", 3])], [tensor("output", 1, ["b", 3])]
    )
    folder = tmp_path / "odd"
    folder.mkdir()
    sets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("my.domain", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=sets), folder / "model.onnx")
    artifact = bench.store.put(folder, "onnx")
    module = kind.replace("-", "_")
    with pytest.raises(StepFailed, match="NoSuchOperator"):
        bench.run(f"compile.{module}:compile_graph", {"target": {"kind": kind}}, graph=artifact)


def test_validation_finds_what_the_candidate_lost(bench: Bench) -> None:
    graph, _calibration = bench.graph()
    weights = bench.weights()
    reference = bench.run(
        "validate.reference:reference", {**BASE, "groups": ["label"]}, weights=weights
    )
    model = bench.run(
        "compile.onnxruntime_cpu:compile_graph",
        {"target": {"kind": "onnxruntime-cpu"}},
        graph=graph,
    ).outputs["model"]
    spec = {
        **BASE, "higher_is_better": True,
        "loader": "prefect_hone.runtimes.onnxruntime_runtime:load", "environment": None,
    }  # fmt: skip
    done = bench.run(
        "validate.validate:validate", spec,
        weights=weights, model=model, statistics=reference.outputs["statistics"],
        groups=reference.outputs["groups"],
    )  # fmt: skip
    metrics = done.metrics
    assert metrics["quality/drop"] == 0
    assert metrics["parity/cosine"] == pytest.approx(1)
    assert metrics["parity/sqnr_db"] > 100
    low, value, high = (metrics[f"quality/accuracy{end}"] for end in ("_low", "", "_high"))
    assert low <= value <= high
    assert metrics["size/bytes"] == model.bytes
    assert "quality/worst_group" in metrics
    assert metrics["flips/same_top"] == 1
    assert metrics["flips/kl_divergence"] == pytest.approx(0, abs=1e-9)
    kept = [bench.store.fetch(r.outputs["statistics"]) / STATISTICS for r in (done, reference)]
    own, trained = (load_file(str(path))["statistics"] for path in kept)
    assert (own == trained).all(), "one row for each test sample, to be compared with others"
    proofs, files = bench.store.fetch(done.outputs["proof"]), bench.store.fetch(model)
    for kind in ("inputs", "synthetic"):
        proof = Proof.read(proofs / kind)
        assert proof.inputs["input"].shape == (8, 13)
        assert proof.output.shape == (8, 3)
        assert proof.measured.versions.keys() == {"numpy", "onnxruntime"}
        proof.require(load(files, {"threads": 1}), proof.measured)


@pytest.mark.slow
def test_a_benchmark_measures_each_and_leaves_out_what_crashes(
    bench: Bench, shared_project: Path
) -> None:
    graph, _calibration = bench.graph()
    model = bench.run(
        "compile.onnxruntime_cpu:compile_graph",
        {"target": {"kind": "onnxruntime-cpu"}},
        graph=graph,
    ).outputs["model"]
    loader = "prefect_hone.runtimes.onnxruntime_runtime:load"
    spec = {
        "candidates": [
            {"name": "good", "loader": loader, "environment": None},
            {"name": "broken", "loader": "prefect_hone.runtimes.openvino_runtime:load",
             "environment": None},
        ],
        "champion": {"name": "champion", "loader": loader, "environment": None, "version": "3",
                     "digest": "d"},
        "model": MODEL, "batch_sizes": [1, 8], "threads": 1, "seconds": 0.1, "launches": 2,
        "processor": "here", "baseline": BASELINE_LOADER,
    }  # fmt: skip
    code = bench.store.put(shared_project, "code")
    job = StepJob(
        function="prefect_hone.tasks.benchmark.benchmark:benchmark", key="k", lineage="k", spec=spec,
        inputs={"weights": bench.weights(), "samples": bench.check().outputs["samples"],
                "good": model, "broken": model, "champion": model},
        code=code, allowed=bench.allowed, store=bench.store.url, cache=str(bench.store.cache),
    )  # fmt: skip
    facts = execute(job, lambda _: None).facts
    assert set(facts["measured"]) == {"baseline", "good", "champion"}
    rounds = {name: of["1"]["rounds"] for name, of in facts["measured"].items()}
    assert len({tuple(map(len, launches)) for launches in rounds.values()}) == 1, "one session"
    assert "broken" in facts["failed"]
    for size in ("1", "8"):
        said = facts["measured"]["good"][size]
        assert said["p50_ms"] > 0
        assert said["ratio_low"] <= said["ratio"] <= said["ratio_high"]
        assert facts["measured"]["baseline"][size]["ratio"] == 1
    assert facts["memory"]["good"] > 1e6


def test_an_unexpected_error_comes_with_its_place(bench: Bench) -> None:
    with pytest.raises(HoneError) as caught:
        bench.run("export:export", {"model": MODEL})
    assert "KeyError" in str(caught.value)
    assert "export.py" in str(caught.value)


ODD = {"data": {"factory": "odd_data:tokens", "args": {}}, "metric": "bits_per_token"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({**ODD, "model": {"factory": "odd_models:odd", "args": {"kind": "frozen"}}},
         r"all 11 parameters are frozen \(embed.weight, ...\)"),
        ({**ODD, "model": {"factory": "odd_models:odd", "args": {"kind": "detached"}}},
         "the loss does not depend on any parameter, neither embed.weight nor another"),
        ({"model": {"factory": "odd_models:odd", "args": {"kind": "norm"}},
          "train": {"epochs": 1, "batch_size": 2, "mesh": {"data": 2}}},
         "batch norm can't be trained on one sample at a time"),
        ({"data": {"factory": "odd_data:one_hot", "args": {}}}, "are probabilities of classes"),
        ({**ODD, "model": {"factory": "odd_models:odd", "args": {"kind": "tied"}},
          "train": {"epochs": 1, "batch_size": 4, "mesh": {"tensor": 2}, "parallel": {
              "tensor": {"plan": "odd_models:half_tied_plan"}}}},
         "'embed.weight' and 'head.weight' in different ways"),
        ({**ODD, "model": {"factory": "odd_models:odd", "args": {"kind": "sparse"}}},
         "sparse gradients are not supported: embed.weight"),
    ],
)  # fmt: skip
def test_check_refuses_what_can_not_be_trained(bench: Bench, changed: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        bench.check(**changed)


def test_check_tells_what_no_gradient_reaches(bench: Bench) -> None:
    done = bench.check(**ODD, model={"factory": "odd_models:odd", "args": {"kind": "unused"}})
    assert done.notes == [
        "no gradient reaches spare.weight, spare.bias: what nothing uses is not trained"
    ]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("float64", "the inputs are float64 and the model's weights float32"),
        ("nan input", "Data.test: sample 7 has NaN in the input, and the model's output"),
        ("text", "Data.test: sample 7 has 'a cat' as the input"),
        ("other rows", r"Data.test: the factory gave sample \d+ another target at the next call"),
    ],
)
def test_check_names_the_sample(bench: Bench, kind: str, said: str) -> None:
    split = "train" if kind == "float64" else "test"
    with pytest.raises(InputError, match=said):
        bench.check(data={"factory": "odd_data:rows", "args": {"kind": kind, "split": split}})


def test_check_calls_a_factory_again_although_its_data_are_shared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shared is the same at each call."""
    monkeypatch.setattr(asking, "FAST", 0.0)
    monkeypatch.setattr(bench, "shared", InMemory())
    with pytest.raises(InputError, match="another target at the next call"):
        bench.check(data={"factory": "odd_data:rows", "args": {"kind": "other rows"}})


def test_check_tells_of_a_mean_that_is_not_over_samples(bench: Bench) -> None:
    train = {"epochs": 1, "batch_size": 16, "accumulate": 4}
    weighted = {"loss": "wine_model:weighted_loss"}
    (note,) = bench.check(train={**train, **weighted}).notes
    assert "is not the mean over its parts" in note
    assert bench.check(train={**train, "loss": "wine_model:counted_loss"}).notes == []
    assert bench.check(train={**train, **weighted, "accumulate": 1}).notes == []


def test_check_gives_a_loss_all_outputs_if_it_wants_them(bench: Bench) -> None:
    several = {**ODD, "model": {"factory": "odd_models:odd", "args": {"kind": "several"}}}
    train = {"epochs": 1, "batch_size": 8, "loss": "odd_models:both_heads"}
    assert not bench.check(**several, train={**train, "loss_outputs": "all"}).notes
    with pytest.raises(InputError, match=r"too many indices|only integers|indices") as failed:
        bench.check(**several, train=train)
    assert "odd_models.py" in str(failed.value)


def test_check_reads_no_more_of_the_training_than_its_key_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `looked_at` leaves out has its default, whatever the recipe says."""
    read: set[str] = set()
    original = Train.__getattribute__

    def watched(self: Train, name: str) -> Any:
        if not sys._getframe(1).f_code.co_name.startswith("_"):  # validators look at all
            read.add(name)
        return original(self, name)

    given = {"epochs": 3, "batch_size": 8, "accumulate": 2, "loss": "odd_models:both_heads",
             "loss_outputs": "all"}  # fmt: skip
    kept = looked_at(Train.model_validate({**given, "seed": 3}))
    assert (kept.loss, kept.loss_outputs, kept.seed) == ("odd_models:both_heads", "all", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Train, "__getattribute__", watched)
        bench.check(
            **ODD, model={"factory": "odd_models:odd", "args": {"kind": "several"}}, train=given
        )
    assert "loss_outputs" in read
    assert not (read & set(Train.model_fields)) - LOOKED_AT


def test_the_export_is_tried_before_a_long_training(bench: Bench) -> None:
    """What can't be exported was known after hours of training."""
    model = {"factory": "wine_model:branching", "args": {}}
    hours = {"epochs": 10**7, "batch_size": 16}
    with pytest.raises(StepFailed, match=r"wine_model\.py:\d+ in forward") as failed:
        bench.check(model=model, train=hours)
    assert "branches on the values of a tensor" in str(failed.value)
    assert bench.check(model=model).notes == []
    assert bench.check(train=hours).notes == []
