"""Every mistake that a user can make, and the sentence that they get for it.

Beside its own sentence each message keeps what `judge` asks: it says what and where, names the
user's own files, holds nothing of Hone's or a library's inside, and is short.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from message_rules import INSIDE, judge
from onnx import TensorProto, helper
from prefect_hone import load_recipe
from prefect_hone.flows.cli.prefect_server import require_server
from prefect_hone.flows.engine.pinned_model import pinned
from prefect_hone.flows.engine.shipped_code import shipped_code
from prefect_hone.ray_workers import access
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.recipe.access_policy import AccessPolicy, Origin
from prefect_hone.recipe.errors import HoneError, InputError, ServerUnreachable, StoreError
from prefect_hone.recipe.factories import READ, Allowed, unexpected, use_code
from safetensors.torch import save_file, save_model
from steps_bench import Bench
from torch import nn

RECIPE = """\
name: wine
code: .
model: {factory: "wine_model:net", args: {width: 32}}
data: {factory: "wine_data:wine"}
quality: {metric: accuracy}
train:
  epochs: 2
  batch_size: 16
  loss: cross_entropy
  optimizer: {name: adam, lr: 0.01}
  mesh: {data: 1}
variants:
  - {name: fp32}
  - {name: int8, passes: [{kind: quantize, scheme: static-int8}]}
targets: [onnxruntime-cpu, openvino-cpu]
gates: [{metric: quality.drop, at_most: 0.02}]
registry: {model: wine}
"""
RECIPE_MISTAKES = [
    (
        "train.epohcs=3",
        "--set train.epohcs=3: train.epohcs: there is no such field: did you mean 'epochs'?",
    ),
    ("train.epochs=three", 'train.epochs: got "three": '),
    ("train.epochs=-1", "train.epochs: got -1: "),
    ("train.batch_size=0", "train.batch_size: got 0: "),
    ("train.optimizer.name=adm", "'adm' is not one of "),
    ("train.optimizer.lr=0", "train.optimizer.lr: got 0: "),
    ("train.loss=crossentropy", "did you mean 'cross_entropy'?"),
    ("train.precision=fp16", "fp16 training needs a GPU: set resources.gpus to 1"),
    ("train.mesh.data=32", "a batch of 16 can't be split over 32 workers"),
    ("quality.metric=acuracy", "there is no metric 'acuracy': did you mean 'accuracy'?"),
    ("targets=[openvino-cpuu]", "did you mean 'openvino-cpu'?"),
    ("targets=[]", "targets: "),
    ("variants.int8.passes.0.kind=quantise", "did you mean 'quantize'?"),
    ("variants.int8.passes.0.scheme=static_int8", "did you mean 'static-int8'?"),
    ("variants.int8.name=fp32", "the variant 'fp32' is defined twice"),
    ("variants.int4.name=fp32", "there is no item 'int4'"),
    ("gates.0.metric=latency.p5_ms", "did you mean 'latency.p50_ms'?"),
    ("gates.0.at_least=0.1", "give either at_most or at_least"),
    ("gates.0.batch_size=8", "'quality.drop' does not depend on the batch size"),
    ("registry.model=a/b", "is not a name for a registered model"),
    ("registry.alias=latest", "the alias 'latest' is reserved"),
    ("name=Wine 1", "is not a name: lower-case letters"),
    ("model.factory=wine_model.net", "is not an import path of the form 'module:function'"),
    ("model.source=model.onnx", "give either a factory with args, or a source"),
    ("train", "expected FIELD=VALUE, as in train.epochs=3"),
    ("name.x=3", "'name' is a value and has no field 'x'"),
    ("train.epochs={", "the value is not valid YAML"),
]


@pytest.mark.parametrize(("option", "said"), RECIPE_MISTAKES)
def test_a_mistake_in_the_recipe(tmp_path: Path, option: str, said: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(HoneError) as caught:
        load_recipe(tmp_path / "recipe.yaml", [option])
    assert option.split(".")[0].partition("=")[0] in str(caught.value)
    judge(HoneError.from_dict({**caught.value.to_dict(), "where": "recipe"}), said, tmp_path)


FILES = [
    ("recipe.yaml", b"name: [", "recipe.yaml:1: not valid YAML: "),
    ("recipe.yaml", b"- 1\n- 2\n", "a recipe must be a mapping of fields"),
    ("recipe.yaml", b"name: a\nname: b\n", "recipe.yaml:2: 'name' is given twice"),
    ("recipe.toml", b"name = \n", "not valid TOML"),
    ("recipe.json", b"{}", "a recipe is a .yaml, .yml or .toml file"),
    ("recipe.yaml", b"\xff\xfe\x00", "the recipe can't be read"),
]


@pytest.mark.parametrize(("name", "content", "said"), FILES)
def test_a_file_that_is_no_recipe(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / name)
    judge(caught.value, said, tmp_path)


FAULTS = """\
import torch
from torch import nn

from wine_model import Net


def raises():
    raise ValueError("no such weights")


def no_file():
    return open("/data/weights.bin")


def calls(width):
    return nn.Linear(13, int(width))


class Wrong(Net):
    def forward(self, x):
        return self.last(x)


class Own(Net):
    def forward(self, x):
        raise RuntimeError("I can't")


class Summed(Net):
    def forward(self, x):
        return super().forward(x).sum(0)


class Listed(Net):
    def forward(self, x):
        return [1, 2]


def loss_raises(outputs, targets):
    return outputs.nothing


def loss_of_samples(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def nan(outputs, targets):
    return outputs.sum() * float("nan")


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        if index == 7:
            raise KeyError("label")
        return torch.zeros(13), torch.tensor(0)


def broken():
    from prefect_hone import Data
    return Data(train=Broken(), test=Broken())


def collate(samples):
    return samples["x"]


def odd_collate():
    import wine_data
    from dataclasses import replace
    return replace(wine_data.wine(), collate=collate)


def hungry():
    return torch.zeros(10**14)
"""


@pytest.fixture
def bench(project: Path, tmp_path: Path) -> Iterator[Bench]:
    (project / "faults.py").write_text(FAULTS)
    (project / "typo.py").write_text("def net(:\n    pass\n")
    (project / "missing.py").write_text("import no_such_module\n")
    (project / "at_import.py").write_text("x = 1\ny = x / 0\n")
    yield Bench(project, tmp_path)
    use_code(tmp_path / "nowhere")


def model(factory: str, **args: Any) -> dict[str, Any]:
    return {"model": {"factory": factory, "args": args}}


def data(factory: str, **args: Any) -> dict[str, Any]:
    return {"data": {"factory": factory, "args": args}}


USER_CODE = [
    (model("faults:raises"), "model.factory: faults:raises: the factory raised ValueError: no such "
     "weights (faults.py:8 in raises)"),
    (model("faults:no_file"), "FileNotFoundError: [Errno 2] No such file or directory: "
     "'/data/weights.bin' (faults.py:12 in no_file)"),
    (model("faults:calls", wdith=3), "unexpected keyword argument 'wdith'"),
    (model("faults:calls", width="x"), "'x' (faults.py:16 in calls)"),
    (model("faults:rises"), "'faults' has no 'rises': did you mean 'raises'?"),
    (model("fault:raises"), "'fault' is outside the allowed prefixes: did you mean 'faults'?"),
    (model("os:system"), "'os' is outside the allowed prefixes"),
    (model("typo:net"), "importing 'typo' raised SyntaxError: invalid syntax (typo.py:1)"),
    (model("missing:net"), "there is no module 'no_such_module' (imported in missing.py:1)"),
    (model("at_import:net"), "raised ZeroDivisionError: division by zero (at_import.py:2)"),
    (model("wine_model:not_a_module"), "the factory returned a str, expected a torch.nn.Module"),
    (model("faults:Wrong"), "the model can't take a batch of the data (inputs (125, 13)): "
     "RuntimeError: mat1 and mat2 shapes cannot be multiplied (125x13 and 32x3) (faults.py:21 in "
     "forward)"),
    (model("faults:Own"), "RuntimeError: I can't (faults.py:26 in forward)"),
    (model("faults:Summed"), "the first axis must be the batch"),
    (model("faults:Listed"), "the model returned a list, expected a tensor"),
    (model("faults:hungry"), "you tried to allocate 400000000000000 bytes"),
    ({"loss": "faults:loss_raises"}, "train.loss: faults:loss_raises: the loss raised "
     "AttributeError: 'Tensor' object has no attribute 'nothing' (faults.py:40 in loss_raises)"),
    ({"loss": "faults:loss_of_samples"}, "the loss returned a tensor of shape (125,), expected a "
     "scalar tensor"),
    ({"loss": "faults:nan"}, "the loss of the untrained model is nan"),
    ({"loss": "mse"}, "the loss 'mse' can't take the model's output: output and target differ in "
     "shape"),
    ({"metric": "r2"}, "the metric 'r2' can't judge the model's output"),
    (data("faults:broken"), "data.factory: Data.test: reading sample 7 raised KeyError: 'label' "
     "(faults.py:57 in __getitem__)"),
    (data("faults:odd_collate"), "data.factory: Data.collate: batching 125 samples of train raised "
     "TypeError: list indices must be integers or slices, not str (faults.py:67 in collate)"),
    (data("wine_data:wine", fault="empty"), "data.factory: Data.test: the split is empty"),
    (data("wine_data:wine", fault="raises"), "FileNotFoundError: /data/wine.csv (wine_data.py:"),
    (data("wine_data:wine", fault="not data"), "returned a Tensor, expected a prefect_hone.Data"),
    (data("wine_data:wine", fault="not pairs"), "expected a pair (inputs, target)"),
    (data("wine_data:wine", calibration="overlap"), "5 samples of the calibration split are also "
     "in the test split"),
    (data("wine_data:wine", calibration="other shape"), "calibration has float32, shape (13, 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "said"), USER_CODE)
def test_a_mistake_in_the_users_code(
    bench: Bench, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(HoneError) as caught:
        bench.check(**changed)
    judge(caught.value, said, tmp_path)


def graph(*nodes: Any, opset: int = 20, ir: int = 10, domains: tuple[str, ...] = ()) -> bytes:
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes or (helper.make_node("Relu", ["input"], ["output"]),), "g",
        [info("input", 1, ["b", 3])], [info("output", 1, ["b", None])],
        [helper.make_tensor("w", 1, [4, 2], np.zeros(8, np.float32))],
    )  # fmt: skip
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    whole = helper.make_model(made, opset_imports=sets)
    whole.ir_version = ir
    return bytes(whole.SerializeToString())


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs or ["input"], ["output"], name="n1", **attributes)


def beside(location: str) -> bytes:
    whole = onnx.load_from_string(graph(node("MatMul", "input", "w")))
    tensor = whole.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    return bytes(whole.SerializeToString())


def torch_saved(value: Any) -> bytes:
    import io

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def program(change: Callable[[str, bytes], bytes | None]) -> bytes:
    """An exported program whose files were changed or left out."""
    import io

    stream, other = io.BytesIO(), io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(4, 2), (torch.zeros(2, 4),)), stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(other, "w") as copy:
        for entry in source.infolist():
            content = change(entry.filename, source.read(entry))
            if content is not None:
                copy.writestr(entry.filename, content)
    return other.getvalue()


def _of_torch_99(name: str, content: bytes) -> bytes:
    if not name.endswith("model.json"):
        return content
    said = json.loads(content)
    said["schema_version"]["major"] = 99
    return json.dumps(said).encode()


def _of_another_operator(name: str, content: bytes) -> bytes:
    return content.replace(b"aten.linear.default", b"mylib.linear.default")


def zipped(**files: bytes) -> bytes:
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
SOURCES: list[tuple[str, Callable[[], bytes], str]] = [
    ("ir.onnx", lambda: graph(ir=99), "ir.onnx: IR version 99 is newer than ONNX Runtime "),
    ("opset.onnx", lambda: graph(opset=99), "opset.onnx: opset 99 is newer than ONNX Runtime "),
    ("op.onnx", lambda: graph(node("NoSuch")), "ONNX Runtime has no operator 'NoSuch' in opset 20"),
    ("domain.onnx", lambda: graph(node("No", domain="my.domain"), domains=("my.domain",)),
     "ONNX Runtime has no operator 'No' of the domain 'my.domain'"),
    ("shape.onnx", lambda: graph(node("MatMul", "input", "w")),
     "MatMul 'n1': Incompatible dimensions for matrix multiplication"),
    ("pickled.pt2", lambda: zipped(**{"model/model.pt": torch_saved(nn.Linear(2, 2))}),
     "holds more than plain tensors: "),
    ("type.onnx", lambda: graph(node("And", "input", "input")),
     "And does not take tensor(float) (input 'input')"),
    ("input.onnx", lambda: graph(node("Add", "input", "nowhere")),
     "Node input 'nowhere' is not a graph input"),
    ("empty.onnx", lambda: b"", "empty.onnx: it is empty"),
    ("text.onnx", lambda: b"hello world", "it is not an ONNX file, or it is cut off"),
    ("cut.onnx", lambda: graph()[:60], "it is not an ONNX file, or it is cut off"),
    ("lfs.onnx", lambda: LFS, "it is a Git LFS pointer, not the file: run `git lfs pull`"),
    ("pickle.onnx", lambda: pickle.dumps(print), "it is a pickle"),
    ("saved.onnx", lambda: torch_saved({}), "it is a zip archive, as torch.save writes one"),
    ("beside.onnx", lambda: beside("weights.bin"), "its weights 'weights.bin' are missing"),
    ("outside.onnx", lambda: beside("../weights.bin"), "lie outside its folder"),
    ("cut.pt2", lambda: program(lambda _, c: c)[:500], "this is not a .pt2 file: it is no zip"),
    ("lfs.pt2", lambda: LFS, "it is a Git LFS pointer"),
    ("new.pt2", lambda: program(_of_torch_99), "another version of torch saved it (schema 99; "),
    ("op.pt2", lambda: program(_of_another_operator),
     "it uses the operator mylib.linear.default, which is not registered here"),
    ("saved.pt2", lambda: torch_saved(nn.Linear(2, 2)), "torch.save or TorchScript wrote it"),
    ("state.pt2", lambda: torch_saved({"a": torch.zeros(2)}), "torch.save or TorchScript wrote it"),
    ("out.pt2", lambda: zipped(**{"../../x": b"x"}), "leads out of the archive"),
    ("bomb.pt2", lambda: zipped(weights=bytes(10_000_000)), "this looks like a zip bomb"),
    ("h5.keras", lambda: b"\x89HDF\r\n", "this is not a .keras file: it is an HDF5 file"),
    ("notes.txt", lambda: b"hello", "a .txt file is not a model that can be read"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), SOURCES, ids=[row[0] for row in SOURCES])
def test_a_bad_model_file(
    tmp_path: Path, name: str, content: Callable[[], bytes], said: str
) -> None:
    (tmp_path / name).write_bytes(content())
    with pytest.raises(HoneError) as caught:
        Allowed().call(READ, {"path": str(tmp_path / name)}, "model.factory")
    judge(caught.value, said, tmp_path)
    assert caught.value.where == f"model.source: {tmp_path / name}"


@pytest.mark.nightly
@pytest.mark.slow
def test_keras_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.clear_session()  # which counts the names of layers
    hidden = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda v: v * 2)])
    hidden.save(tmp_path / "lambda.keras")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good:
        files = {name: good.read(name) for name in good.namelist()}
    config = files["config.json"]
    for name, changed, said in (
        ("lambda", None, "it has a Lambda layer, which holds code"),
        ("bare", {"config.json": None}, "it holds no config.json"),
        ("cut", {"config.json": config[:50]}, "it holds a text that is not valid JSON"),
        ("wide", {"config.json": config.replace(b'"units": 2', b'"units": 4')},
         "the weights of Dense 'dense' have shape (3, 2), expected (3, 4)"),
        ("own", {"config.json": config.replace(
            b'"module": "keras.layers", "class_name": "Dense"',
            b'"module": "mylib", "class_name": "MyDense"')},
         "it has a layer MyDense, which is not one of Keras's own"),
    ):  # fmt: skip
        path = tmp_path / f"{name}.keras"
        if changed is not None:
            with zipfile.ZipFile(path, "w") as archive:
                for inner, content in {**files, **changed}.items():
                    if content is not None:
                        archive.writestr(inner, content)
        with pytest.raises(HoneError) as caught:
            Allowed().call(READ, {"path": str(path)}, "model.factory")
        judge(caught.value, said, tmp_path)


#: Changes of config.json, what becomes of the weights, and what is said; each takes a child process.
TRANSFORMERS_FOLDERS = (
    ({"architectures": ["BertForNothing"]}, "kept", "no architecture 'BertForNothing'"),
    ({"num_hidden_layers": 2}, "kept", "the weights lack 'bert.encoder.layer.1."),
    ({}, "gone", "the folder has no model.safetensors; pytorch_model.bin is a pickle"),
)
MORE_OF_THEM = (
    ({"model_type": "nope"}, "kept", "has no model type 'nope'"),
    ({"model_type": "nope", "auto_map": {"AutoConfig": "x.Y"}}, "kept", "it needs code of its"),
    ({"hidden_size": 16}, "kept", "by config.json (and"),
    ({}, "cut off", "model.safetensors: it is cut off: "),
    ({}, "empty", "model.safetensors: it is empty"),
)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("cases", [TRANSFORMERS_FOLDERS, MORE_OF_THEM])
def test_transformers_folders(
    tmp_path: Path, cases: tuple[tuple[dict[str, Any], str, str], ...]
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "bert"
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    said_by_itself = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    left = {"kept": weights, "cut off": weights[:-9], "empty": b""}
    for changed, what, said in cases:
        (folder / "config.json").write_text(json.dumps({**said_by_itself, **changed}))
        (folder / "model.safetensors").unlink()
        if what in left:
            (folder / "model.safetensors").write_bytes(left[what])
        else:
            (folder / "pytorch_model.bin").write_bytes(b"\x80")
        with pytest.raises(HoneError) as caught:
            Allowed().call(READ, {"path": str(folder)}, "model.factory")
        judge(caught.value, said, tmp_path)


def _header(said: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + data


def _saved(width: int, **more: torch.Tensor) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = Allowed.from_environment(path.parent / "project").call(
            "wine_model:net", {"width": width}, "model"
        )
        if more:
            save_file({**made.state_dict(), **more}, path)
        else:
            save_model(made, str(path))

    return write


def _cut(path: Path) -> None:
    _saved(32)(path)
    path.write_bytes(path.read_bytes()[:-100])


WEIGHTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda p: p.write_bytes(b""), "it is empty"),
    ("cut", _cut, "it is cut off: "),
    ("torch.save", lambda p: p.write_bytes(torch_saved({})), "it is a zip archive, as torch.save"),
    ("text", lambda p: p.write_bytes(b"hello world, this is no tensor"), "not a safetensors file"),
    ("header", lambda p: p.write_bytes(struct.pack("<Q", 9) + b'{"a":1,,}'), "its header is not that of a safetensors file"),
    ("type", lambda p: p.write_bytes(_header(
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
     "its header names the type F99, which this safetensors does not know"),
    ("lfs", lambda p: p.write_bytes(LFS), "it is a Git LFS pointer"),
    ("shape", _saved(8), "'first.weight' has shape (8, 13) in the file and (32, 13) in the model "
     "(and 4 more)"),
    ("extra", _saved(32, other=torch.zeros(1)), "the model has no 'other'"),
    ("missing", lambda p: save_file({"first.bias": torch.zeros(32)}, p), "the file has no "),
    ("nowhere", lambda p: None, "there is no such file or folder"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "said"), WEIGHTS, ids=[row[0] for row in WEIGHTS])
def test_bad_weights(
    bench: Bench, tmp_path: Path, name: str, write: Callable[[Path], Any], said: str
) -> None:
    path = tmp_path / "given.safetensors"
    write(path)
    with pytest.raises(HoneError) as caught:
        bench.check(model={**model("wine_model:net")["model"], "weights": str(path)})
    judge(caught.value, said, tmp_path)
    assert caught.value.where == f"model.weights: {path}"
    objective = {"kind": "distill", "factory": "wine_model:net", "weights": str(path)}
    from prefect_hone.ray_workers.training.objectives import load_teacher
    from prefect_hone.recipe.objectives import DistillObjective

    with pytest.raises(HoneError) as caught:
        load_teacher(DistillObjective.model_validate(objective), bench.allowed)
    judge(caught.value, said, tmp_path)
    assert caught.value.where == f"train.objective.weights: {path}"


def onnx_artifact(bench: Bench, content: bytes, note: str | None = None) -> Artifact:
    folder = bench.folder / "graph"
    folder.mkdir()
    whole = onnx.load_from_string(content)
    if note:
        whole.metadata_props.add(key="hone.precision", value=note)
    onnx.save(whole, folder / "model.onnx")
    return bench.store.put(folder, "onnx")


TARGETS = [
    ("onnxruntime-cpu", None, graph(node("NoSuch")), "ONNX Runtime has no operator 'NoSuch'"),
    ("onnxruntime-cpu", "bf16", graph(), "ONNX Runtime has no bf16 kernels for the processor"),
    ("onnxruntime-cpu", "fp8", graph(), "ONNX Runtime does not support fp8"),
    ("onnxruntime-cpu", None, graph(ir=99), "IR version 99 is newer than ONNX Runtime"),
    ("openvino-cpu", None, graph(node("NoSuch")), "OpenVINO has no operator 'NoSuch'"),
    ("openvino-cpu", None, graph(node("MatMul", "input", "w")), "MatMul: Incompatible MatMul"),
    ("openvino-cpu", "fp8", graph(), "OpenVINO does not support fp8"),
]


@pytest.mark.parametrize(("kind", "note", "content", "said"), TARGETS)
def test_a_target_that_can_not_take_the_graph(
    bench: Bench, tmp_path: Path, kind: str, note: str | None, content: bytes, said: str
) -> None:
    pytest.importorskip(kind.removesuffix("-cpu"))
    artifact = onnx_artifact(bench, content, note)
    with pytest.raises(HoneError) as caught:
        bench.run(
            f"compile.{kind.replace('-', '_')}:compile_graph", {"target": {"kind": kind}},
            graph=artifact,
        )  # fmt: skip
    judge(caught.value, said, tmp_path, code=1)


def test_what_the_recipe_names_and_is_not_there(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session: Any = SimpleNamespace(
        place=project,
        kept={},
        store=None,
        access=AccessPolicy(origin=Origin.COMMAND_LINE),
        with_secrets=str,
    )
    for option, said in (
        (
            "model.source=nowhere.onnx",
            "model.source: nowhere.onnx: there is no such file or folder",
        ),
        ("model.source=.", "model.source: .: the folder holds no model that can be read"),
        ("model.weights=w.safetensors", "model.weights: w.safetensors: there is no such file"),
        ("model.weights=ftpx://host/w", "model.weights: ftpx://host/w: the weights can't be read"),
    ):
        options = [option] if "weights" in option else ["model={}", option]
        recipe = load_recipe(project / "recipe.yaml", options)
        with pytest.raises(HoneError) as caught:
            pinned(recipe, session)
        judge(caught.value, said, tmp_path)
    with pytest.raises(HoneError) as caught:
        shipped_code(project / "nowhere")
    judge(caught.value, "there is no such folder", tmp_path)


def test_the_users_names_replace_those_of_the_store() -> None:
    kept = f"/home/me/.hone/store/artifacts/{'0' * 64}"
    error = InputError("it is empty", where=f"model.source: {kept}/model.onnx")
    assert error.renamed({f"{kept}/model.onnx": "my/model.onnx"}).where == (
        "model.source: my/model.onnx"
    )
    assert error.renamed({kept: "my"}).where == "model.source: my/model.onnx"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "the memory ran out"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                      "allocate memory: you tried to allocate 4000000000 bytes. Error code 12"),
         "the memory ran out (tried to allocate 4 GB)"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
         "the GPU's memory ran out (tried to allocate 2.00 GiB)"),
        (OSError(28, "No space left on device"), "no space left on the disk"),
        (PermissionError(13, "Permission denied", "/data/x"), "permission denied: '/data/x'"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks(tmp_path: Path, error: Exception, said: str) -> None:
    try:
        raise error
    except Exception as raised:
        judge(unexpected(raised), said, tmp_path, code=1)


def test_stores_and_servers(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("x")
    occupied = Store(str(tmp_path / "file" / "store"), tmp_path / "cache")
    held = Store(str(tmp_path / "held"), tmp_path / "cache")
    kept = held.put(project, "code")
    os.truncate(Path(kept.uri) / "wine_model.py", 3)
    cases: list[tuple[Callable[[], Any], type[HoneError], str]] = [
        (lambda: occupied.put(project, "code"), StoreError, "the artifact store failed: can't write"),
        (lambda: Store("nope://x", tmp_path), StoreError, "HONE_STORE=nope://x"),
        (lambda: held.fetch(kept), StoreError, "is missing or corrupted"),
        (lambda: require_server("http://127.0.0.1:9/api"), ServerUnreachable,
         "PREFECT_API_URL=http://127.0.0.1:9/api: the Prefect server does not answer"),
        (lambda: access.probe("127.0.0.1:9"), ServerUnreachable,
         "RAY_ADDRESS=127.0.0.1:9: the Ray cluster does not answer (Connection refused)"),
    ]  # fmt: skip
    for call, kind, said in cases:
        with pytest.raises(kind) as caught:
            call()
        judge(caught.value, said, tmp_path, code=1)


def test_there_are_enough_of_them() -> None:
    tables = (RECIPE_MISTAKES, FILES, USER_CODE, SOURCES, WEIGHTS, TARGETS)
    assert sum(map(len, tables)) > 100


@pytest.mark.nightly
def test_a_whole_run_names_the_users_file(hone: Any, project: Path) -> None:
    (project / "model.onnx").write_bytes(graph(ir=99))
    done = hone.run(
        "run", str(project / "recipe.yaml"), "--set", "model={source: model.onnx}",
        "--set", "train.epochs=0",
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "model.source: model.onnx: IR version 99 is newer than ONNX Runtime" in said
    for pattern in INSIDE:
        assert re.search(pattern, done.stderr) is None, said


@pytest.mark.slow
def test_a_whole_run_names_the_users_line(hone: Any, project: Path) -> None:
    (project / "faults.py").write_text(FAULTS)
    done = hone.run(
        "run", str(project / "recipe.yaml"), "--set", "data.factory=faults:broken",
        "--set", "data.args={}",
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "raised KeyError: 'label' (faults.py:57 in __getitem__)" in said
    for pattern in INSIDE:
        assert re.search(pattern, done.stderr) is None, said
