"""Models from files: transformers, torch.export, Keras, ONNX, MLflow; hostile ones are refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import onnx
import pytest
import torch
import yaml
from onnxruntime import InferenceSession
from prefect_hone.ray_workers.data.calling import call_model
from prefect_hone.ray_workers.model.incoming import keras_model, program, read, transformers_model
from prefect_hone.ray_workers.model.module import save_module
from prefect_hone.ray_workers.model.onnx_model import OnnxGraph, model_files, torch_module
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.tasks.compile.program import InOrder
from safetensors.torch import save_file
from steps_bench import Bench
from torch import nn


def saved_bert(folder: Path) -> nn.Module:
    """A small transformers model, and its folder."""
    transformers = pytest.importorskip("transformers")
    made = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            vocab_size=100, num_labels=3,
        )
    ).eval()  # fmt: skip
    made.save_pretrained(folder)
    return made


def test_a_transformers_folder(tmp_path: Path) -> None:
    made = saved_bert(tmp_path / "bert")
    loaded = transformers_model(str(tmp_path / "bert")).eval()
    inputs = {"input_ids": torch.arange(12).reshape(2, 6)}
    assert torch.allclose(call_model(loaded, inputs), call_model(made, inputs))
    assert call_model(loaded, inputs).shape == (2, 3)


@pytest.mark.nightly
def test_a_wrong_transformers_folder_is_told(tmp_path: Path) -> None:
    made = saved_bert(tmp_path / "bert")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    for change, said in (
        ({"hidden_size": 10**6}, r"describes [\d,]{17} parameters, and its weights have only"),
        ({"num_attention_heads": 5}, "this is not a transformers model: .*multiple of"),
        ({"hidden_size": "x"}, "this is not a transformers model: "),
    ):
        (tmp_path / "bert" / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=said):
            transformers_model(str(tmp_path / "bert"))
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))

    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(made.state_dict(), tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(InputError, match="the weights can't be loaded"):
        transformers_model(str(tmp_path / "bert"))
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(InputError, match="this is not a transformers model"):
        transformers_model(str(tmp_path / "bert"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, nn.Module, torch.Tensor]:
    """A program, exported once: what has the same bytes is opened once in quarantine."""
    path = tmp_path_factory.mktemp("saved") / "model.pt2"
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = torch.randn(5, 4)
    axis = torch.export.Dim("batch")
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: axis},)), path)
    return path.read_bytes(), model, x


@pytest.fixture
def exported(saved: tuple, tmp_path: Path) -> tuple[Path, nn.Module, torch.Tensor]:
    content, model, x = saved
    (tmp_path / "model.pt2").write_bytes(content)
    return tmp_path / "model.pt2", model, x


def test_an_exported_program(exported: tuple) -> None:
    path, model, x = exported
    loaded = program(str(path))
    loaded.eval()
    assert torch.allclose(loaded(x), model(x))
    assert loaded(x[:3]).shape == (3, 2)
    again = program(str(path))
    again.load_state_dict(loaded.state_dict())


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("/tmp/hone-was-here"),))


def rewritten(path: Path, target: Path, changed: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for entry in source.infolist():
            if entry.filename.rpartition("/")[2] not in changed:
                copy.writestr(entry.filename, source.read(entry))
        for name, content in changed.items():
            copy.writestr(f"model/{name}", content)
    return target


def test_hostile_archives_are_refused_and_nothing_runs(exported: tuple, tmp_path: Path) -> None:
    path = exported[0]
    truncated = tmp_path / "truncated.pt2"
    truncated.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        InputError, match=r"this is not a \.pt2 file: it is no zip file, or it is cut off"
    ):
        program(str(truncated))
    pickled = rewritten(path, tmp_path / "pickled.pt2", {"model.pt": pickle.dumps(Bomb())})
    with pytest.raises(InputError, match="holds more than plain tensors"):
        program(str(pickled))
    assert not Path("/tmp/hone-was-here").exists()
    outside = tmp_path / "outside.pt2"
    with zipfile.ZipFile(outside, "w") as archive:
        archive.writestr("../../escaped", b"x")
    with pytest.raises(InputError, match="leads out of the archive"):
        program(str(outside))
    bomb = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/weights", b"\0" * 50_000_000)
    with pytest.raises(InputError, match="looks like a zip bomb"):
        program(str(bomb))


def test_a_keras_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    made = keras.Sequential(
        [keras.Input((13,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)]
    )
    made.save(tmp_path / "model.keras")
    loaded = keras_model(str(tmp_path / "model.keras"))
    x = torch.randn(4, 13)
    assert isinstance(loaded, nn.Module)
    assert np.allclose(loaded(x).detach().numpy(), made(x).detach().numpy(), atol=1e-6)
    hostile = keras.Sequential([keras.Input((13,)), keras.layers.Lambda(lambda v: v * 2)])
    hostile.save(tmp_path / "lambda.keras")
    with pytest.raises(InputError, match="Keras can't load the model"):
        keras_model(str(tmp_path / "lambda.keras"))


def test_a_program_is_exported_again(exported: tuple, tmp_path: Path) -> None:
    path, model, x = exported
    bench = Bench(tmp_path, tmp_path)
    factory = {
        "factory": "prefect_hone.ray_workers.model.incoming:read",
        "args": {"path": str(path)},
    }
    (tmp_path / "weights").mkdir()
    save_module(read(str(path)), [], tmp_path / "weights")
    (tmp_path / "inputs").mkdir()
    save_file({"input": x}, tmp_path / "inputs" / "samples.safetensors")
    graph = bench.run(
        "export:export", {"model": factory},
        weights=bench.store.put(tmp_path / "weights", "weights"),
        inputs=bench.store.put(tmp_path / "inputs", "inputs"),
    ).outputs["graph"]  # fmt: skip
    session = InferenceSession(str(bench.store.fetch(graph) / "model.onnx"))
    found = session.run(["output"], {"input": x.numpy()})[0]
    assert np.allclose(found, model(x).detach(), atol=1e-6)
    within = InOrder(read(str(path)), ["input"], ("output",)).eval()
    assert torch.allclose(torch.export.export(within, (x,)).module()(x), model(x))


class Two(nn.Module):
    """Two named inputs, two outputs; the second one is the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.linear = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embedding(ids).mean(1) * scale
        return {"hidden": hidden, "logits": self.linear(hidden)}


TWO = {"ids": torch.arange(12).reshape(3, 4) % 10, "scale": torch.rand(3, 1)}


def write_onnx(model: nn.Module, inputs: dict, path: Path, dynamic: bool = True) -> None:
    axes = {name: {0: torch.export.Dim("n")} for name in inputs} if dynamic else None
    made = torch.onnx.export(
        model.eval(), (), kwargs=inputs, dynamo=True, dynamic_shapes=axes, verbose=False,
        input_names=list(inputs), output_names=["hidden", "logits"],
    )  # fmt: skip
    onnx.save(made.model_proto, path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Two]:
    """An ONNX file, exported once, and its model."""
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    model = Two()
    write_onnx(model, TWO, path)
    return path.read_bytes(), model


def test_an_onnx_file_with_several_inputs_and_outputs(
    two: tuple[bytes, Two], tmp_path: Path
) -> None:
    content, model = two
    (tmp_path / "two.onnx").write_bytes(content)
    loaded = read(str(tmp_path / "two.onnx"))
    assert isinstance(loaded, OnnxGraph)
    assert loaded.inputs == ["ids", "scale"]
    assert torch.allclose(call_model(loaded, TWO), model(**TWO)["logits"], atol=1e-6)
    assert loaded.parameter_count >= 10 * 4 + 4 * 3 + 3
    graph, main = loaded.exported({name: value.numpy() for name, value in TWO.items()})
    assert main == "logits"
    assert [output.name for output in graph.graph.output] == ["hidden", "output"]
    assert {i.type.tensor_type.shape.dim[0].dim_param for i in graph.graph.input} == {"batch"}
    session = InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["output"], {name: value.numpy() for name, value in TWO.items()})[0]
    assert np.allclose(found, model(**TWO)["logits"].detach(), atol=1e-6)
    with pytest.raises(InputError, match="the graph's inputs are ids, scale; the data gives ids"):
        loaded(TWO["ids"])
    with pytest.raises(StepFailed, match="prune needs a torch module"):
        torch_module(loaded, "prune")


def test_a_fixed_batch_is_freed_or_refused(tmp_path: Path) -> None:
    model = Two()
    write_onnx(model, TWO, tmp_path / "fixed.onnx", dynamic=False)
    inputs = {name: value.repeat(3, 1) for name, value in TWO.items()}
    loaded = read(str(tmp_path / "fixed.onnx"))
    assert torch.allclose(call_model(loaded, inputs), model(**inputs)["logits"], atol=1e-6)

    class Mixing(Two):
        def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            found = super().forward(ids, scale)
            return {**found, "logits": found["logits"] - found["logits"].mean(0)}

    write_onnx(Mixing(), TWO, tmp_path / "mixing.onnx")
    with pytest.raises(StepFailed, match="it mixes the samples of a batch"):
        OnnxGraph(tmp_path / "mixing.onnx").exported(
            {name: value.numpy() for name, value in TWO.items()}
        )


@pytest.fixture
def beside(two: tuple[bytes, Two], tmp_path: Path) -> Path:
    """An ONNX file whose weights lie beside it."""
    (tmp_path / "plain.onnx").write_bytes(two[0])
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        onnx.load(tmp_path / "plain.onnx"), folder / "model.onnx", save_as_external_data=True,
        location="weights.bin", size_threshold=64,
    )  # fmt: skip
    return folder / "model.onnx"


def test_weights_beside_an_onnx_file_belong_to_it(beside: Path) -> None:
    assert [path.name for path in model_files(beside)] == ["model.onnx", "weights.bin"]
    first = read(str(beside))
    weights = beside.with_name("weights.bin")
    weights.write_bytes(bytes(8) + weights.read_bytes()[8:])
    second = read(str(beside.parent))
    assert not torch.equal(first.digest, second.digest), "other weights, another model"


def test_what_is_compiled_for_a_device_is_no_onnx_model(beside: Path) -> None:
    """TensorRT's provider would load an engine, which is native code, from the file that it names."""
    model = onnx.load(beside)
    node = onnx.helper.make_node(
        "EPContext", ["x"], ["y"], name="engine", domain="com.microsoft", embed_mode=0,
        ep_cache_context="../engine.plan",
    )  # fmt: skip
    branch = onnx.helper.make_graph([node], "b", [], [])
    function = onnx.helper.make_function("own", "F", ["x"], ["y"], [node], [])
    for put in (
        lambda m: m.graph.node.append(node),
        lambda m: m.graph.node.append(
            onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch)
        ),
        lambda m: m.functions.append(function),
    ):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        put(changed)
        onnx.save(changed, beside)
        with pytest.raises(InputError, match=r"its node 'engine' \(EPContext\) is compiled"):
            model_files(beside)


def test_hostile_onnx_files_are_refused(beside: Path, tmp_path: Path) -> None:
    whole = beside.read_bytes()
    for location in ("../secret.bin", "/etc/passwd", "a\\b"):
        model = onnx.load(beside, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        beside.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match="lie outside its folder"):
            read(str(beside))
    beside.write_bytes(whole)
    weights = beside.with_name("weights.bin")
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="are cut off"):
        read(str(beside))
    weights.unlink()
    with pytest.raises(InputError, match=r"its weights .weights\.bin. are missing"):
        read(str(beside))
    (tmp_path / "elsewhere.bin").write_bytes(content)
    weights.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(InputError, match="are a symbolic link"):
        read(str(beside))
    for name, content in (("cut.onnx", whole[: len(whole) // 2]), ("empty.onnx", b""),
                          ("pickle.onnx", pickle.dumps(print))):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"it is a pickle|it is empty|it is cut off"):
            read(str(tmp_path / name))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"a \.txt file is not a model that can be read"):
        read(str(tmp_path / "notes.txt"))


def test_weights_outside_are_found_wherever_a_model_names_them(
    beside: Path, tmp_path: Path
) -> None:
    """In a function of the model, as a sparse tensor; under a name that means a place in memory."""
    stranger = onnx.TensorProto(name="s", data_type=1, dims=[1])
    stranger.data_location = onnx.TensorProto.EXTERNAL
    stranger.external_data.add(key="location", value="../../etc/passwd")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=stranger)
    function = onnx.helper.make_function("d", "F", [], ["c"], [constant], [])
    sparse = onnx.SparseTensorProto(values=stranger, dims=[4])
    within = onnx.load(beside, load_external_data=False)
    within.functions.append(function)
    within_sparse = onnx.load(beside, load_external_data=False)
    within_sparse.graph.sparse_initializer.append(sparse)
    for model in (within, within_sparse):
        beside.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match="lie outside its folder"):
            model_files(beside)
    memory = onnx.load(tmp_path / "plain.onnx")
    place = beside.parent / "*" / "_ORT_MEM_ADDR_" / "*"
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(64))
    stranger.external_data[0].value = "*/_ORT_MEM_ADDR_/*"
    memory.graph.initializer.append(stranger)
    beside.write_bytes(memory.SerializeToString())
    with pytest.raises(InputError, match="an unusual name"):
        model_files(beside)
    stranger.external_data.add(key="location", value="weights.bin")
    memory.graph.initializer[-1].CopyFrom(stranger)
    beside.write_bytes(memory.SerializeToString())
    with pytest.raises(InputError, match="named twice"):
        model_files(beside)


def logged(folder: Path, flavors: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
    return folder


def test_an_mlflow_model_is_read_by_its_flavor(
    exported: tuple, two: tuple[bytes, Two], tmp_path: Path
) -> None:
    path, model, x = exported
    folder = logged(tmp_path / "pt2", {"pytorch": {"model_data": "data"}, "python_function": {}})
    (folder / "data").mkdir()
    path.rename(folder / "data" / "model.pt2")
    assert torch.allclose(read(str(folder))(x), model(x))
    folder = logged(tmp_path / "onnx", {"onnx": {"data": "model.onnx"}})
    (folder / "model.onnx").write_bytes(two[0])
    assert isinstance(read(str(folder)), OnnxGraph)
    pickled = logged(tmp_path / "pickled", {"pytorch": {"model_data": "data"}})
    with pytest.raises(InputError, match="a pickle, which could hold any code"):
        read(str(pickled))
    served = {"python_function": {"loader_module": "prefect_hone.runtimes.served_model"}}
    with pytest.raises(InputError, match="a champion of Hone, compiled already"):
        read(str(logged(tmp_path / "champion", served)))
    with pytest.raises(InputError, match="logged as sklearn"):
        read(str(logged(tmp_path / "sklearn", {"sklearn": {}})))
    (pickled / "MLmodel").write_text("flavors: [")
    with pytest.raises(InputError, match="its MLmodel file can't be read"):
        read(str(pickled))


def test_a_model_in_a_remote_store_is_fetched(beside: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.put(str(beside.parent), "/models/two", recursive=True)
    assert isinstance(read("memory://models/two/model.onnx"), OnnxGraph)
