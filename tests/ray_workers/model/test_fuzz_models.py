"""Any bytes as a model's file are read or refused with a sentence, and nothing of them runs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from fuzzing import Changes, changed_bytes, changed_values, changes_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from prefect_hone.ray_workers.model import (
    archive,
    incoming,
    keras_file,
    program_file,
    transformers_folder,
)
from prefect_hone.ray_workers.model.file_kinds import safetensors_problem
from prefect_hone.ray_workers.model.module import build
from prefect_hone.ray_workers.model.onnx_model import model_files
from prefect_hone.ray_workers.model.operators import is_allowed
from prefect_hone.ray_workers.model.surgery import operations_of
from prefect_hone.ray_workers.model.symbolic import NotAllowed, checked_expression
from prefect_hone.ray_workers.store.file_names import SURGERY
from prefect_hone.recipe.errors import HoneError
from prefect_hone.recipe.factories import BUNDLED, Allowed
from prefect_hone.recipe.model import Factory
from torch import nn

_TEXTS = st.sampled_from(
    ["", "x", "../x", "a/b", "__import__('os')", "s0", "Symbol('s0')", "torch.os.system", "weight_0",
     "torch.ops.aten.relu.default", "\0", "keras.layers", "Lambda", "function", "builtins", "\u2028",
     "owner/kernel", "sdpa", '"', "');import os#", "as_expr", "use_pickle"]
) | st.text(max_size=5)  # fmt: skip
_PLAIN: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)


def _changes(value: Any) -> st.SearchStrategy[Changes]:
    return changes_of(value, _PLAIN)


def _changed(value: Any, changes: Changes) -> str:
    return json.dumps(changed_values(value, changes))


@functools.cache
def _exported() -> dict[str, bytes]:
    stream = io.BytesIO()
    axes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(
        torch.export.export(nn.Linear(2, 2), (torch.zeros(3, 2),), dynamic_shapes=axes), stream
    )
    with zipfile.ZipFile(stream) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


_PROGRAM, _WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def _json(name: str) -> Any:
    return json.loads(_exported()[name])


_KERAS = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "layers": [
            {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2},
             "registered_name": None, "build_config": {"input_shape": [None, 3]}}
        ]
    },
    "registered_name": None,
}  # fmt: skip
_BERT = {"model_type": "bert", "hidden_size": 8, "text_config": {"attn_implementation": "sdpa"}}
_SURGERY = [
    {"op": "reshape", "layers": {"LAYER": {"attributes": {"in_channels": 3},
                                           "shapes": {"weight": [4, 1, 3, 3]}}}},
    {"op": "low-rank", "ranks": {"LAYER": 2}},
    {"op": "student", "factory": f"{BUNDLED}.digits.digits_model:small_resnet",
     "args": {"width": 4}},
]  # fmt: skip
_NET = Factory(factory=f"{BUNDLED}.digits.digits_model:small_resnet", args={"width": 4})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def _written(path: Path, files: dict[str, bytes], root: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{root}{name}", content)
    return path


@fuzzed
@given(
    st.deferred(lambda: _changes(_json(_PROGRAM))), st.deferred(lambda: _changes(_json(_WEIGHTS)))
)
def test_any_program(folder: Path, program: Any, weights: Any) -> None:
    files = {
        **_exported(),
        _PROGRAM: _changed(_json(_PROGRAM), program).encode(),
        _WEIGHTS: _changed(_json(_WEIGHTS), weights).encode(),
    }
    with contextlib.suppress(HoneError):
        program_file.write_checked(
            _written(folder / "m.pt2", files, "model/"), folder / "checked.pt2", "model"
        )
        with zipfile.ZipFile(folder / "checked.pt2") as archive:
            names = {n.partition("/")[2] for n in archive.namelist()}
            assert names <= {*_exported(), ".data/version"}
            assert archive.read("model/data/sample_inputs/model.pt") == b""


@fuzzed
@given(st.integers(0, 10_000), st.binary(max_size=8), st.integers(0, 10_000))
def test_any_bytes_of_an_archive(folder: Path, place: int, content: bytes, cut: int) -> None:
    path = _written(folder / "b.pt2", _exported(), "model/")
    whole = bytearray(path.read_bytes())
    place %= len(whole)
    whole[place : place + len(content)] = content
    path.write_bytes(whole[: len(whole) - cut if cut < 100 else None])
    with contextlib.suppress(HoneError):
        program_file.write_checked(path, folder / "checked.pt2", "model")


def _outside(path: Path) -> Path:
    """A folder for a model, beside a secret that it must not reach."""
    (path / "beside").mkdir(exist_ok=True)
    (path / "secret").write_bytes(b"secret" * 100)
    if not (path / "beside" / "link").is_symlink():
        (path / "beside" / "link").symlink_to(path / "secret")
    (path / "beside" / "weights").write_bytes(b"\0" * 400)
    return path / "beside"


_PARTS = st.sampled_from(
    ["..", ".", "/", "weights", "link", "secret", "\\", "*/_ORT_MEM_ADDR_/*", "\0", " ", "~", ":",
     "file:", "beside", "//", "\n", "é", ""]
)  # fmt: skip


@fuzzed
@given(
    st.lists(_PARTS, max_size=6).map("".join),
    st.integers(-9, 2**63 - 1) | st.text(max_size=4),
    st.integers(-9, 2**63 - 1) | st.text(max_size=4),
)
def test_any_place_of_onnx_weights(folder: Path, location: str, offset: Any, length: Any) -> None:
    place = _outside(folder) / "m.onnx"
    place.write_bytes(_onnx_graph())
    model = onnx.load(str(place), load_external_data=False)
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
    place.write_bytes(model.SerializeToString())
    with contextlib.suppress(HoneError):
        for file in model_files(place):
            assert file.resolve().parent == place.parent.resolve()
            assert file.name in ("m.onnx", "weights")


@functools.cache
def _onnx_graph() -> bytes:
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(torch.ones(100).numpy(), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g",
        [value("x", 1, ["n", 100])], [value("y", 1, ["n", 100])], [weights],
    )  # fmt: skip
    content: bytes = helper.make_model(graph, ir_version=10).SerializeToString()
    return content


@fuzzed
@given(st.deferred(lambda: changed_bytes(_onnx_graph())) | st.binary(max_size=100))
def test_any_bytes_as_an_onnx_file(folder: Path, content: bytes) -> None:
    place = folder / "any.onnx"
    place.write_bytes(content)
    with contextlib.suppress(HoneError):
        assert model_files(place) == [place]


_HEADER = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
_SAFETENSORS = len(_HEADER).to_bytes(8, "little") + _HEADER + b"\0" * 8


@fuzzed
@given(changed_bytes(_SAFETENSORS) | st.binary(max_size=40))
def test_any_bytes_as_safetensors(folder: Path, content: bytes) -> None:
    (folder / "w.safetensors").write_bytes(content)
    said = safetensors_problem(folder / "w.safetensors")
    assert said is None or len(said) < 200


_MLMODEL = """\
flavors:
  onnx: {data: model.onnx, onnx_version: 1.2}
  python_function: {loader_module: mlflow.onnx, data: model.onnx}
model_uuid: x
"""


@fuzzed
@given(changed_bytes(_MLMODEL.encode()) | st.binary(max_size=60))
def test_any_bytes_as_an_mlmodel(folder: Path, content: bytes) -> None:
    place = folder / "logged"
    place.mkdir(exist_ok=True)
    (place / "MLmodel").write_bytes(content)
    with pytest.raises(HoneError):  # there is no model beside it
        incoming.mlflow_model(str(place))


_MEMBERS = st.sampled_from(
    ["a", "a/b", "../x", "/x", "", "a/", "C:\\x", "a\0b", "config.json", "é", ".", "a//b", "a/../b"]
)


@fuzzed
@given(
    st.lists(st.tuples(_MEMBERS, st.binary(max_size=9), st.integers(0, 10**6)), max_size=5),
    st.booleans(),
)
def test_any_archive(folder: Path, members: list[tuple[str, bytes, int]], packed: bool) -> None:
    path = folder / "any.zip"
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as target:
        for name, content, times in members:
            info = zipfile.ZipInfo("x" + name)
            info.filename, info.compress_type = name, kind
            target.writestr(info, content * min(times, 10**6))
    with (
        contextlib.suppress(HoneError),
        archive.opened(path, "model", lambda name, _: None if len(name) < 9 else "x") as found,
    ):
        zipped, entries = found
        sizes = [len(zipped.read(entry)) for entry in entries.values()]
        assert sum(sizes) <= 256 * 2**20
        for name, entry in entries.items():
            assert ".." not in Path(name).parts
            assert not name.startswith("/")
            assert entry.file_size <= 200 * max(1024, entry.compress_size)


@fuzzed
@given(_changes(_KERAS))
def test_any_keras_file(folder: Path, changes: Any) -> None:
    files = {"config.json": _changed(_KERAS, changes).encode(), "model.weights.h5": b""}
    with contextlib.suppress(HoneError):
        keras_file.write_checked(
            _written(folder / "m.keras", files, ""), folder / "checked.keras", "model"
        )


@fuzzed
@given(_changes(_BERT))
def test_any_configuration_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, changes: Any
) -> None:
    given_folder, target = (tmp_path_factory.mktemp(name) for name in ("given", "checked"))
    (given_folder / "config.json").write_text(_changed(_BERT, changes))
    with contextlib.suppress(HoneError):
        transformers_folder.write_checked(given_folder, target, "model")
        assert "owner/kernel" not in (target / "config.json").read_text()


@fuzzed
@given(_changes(_SURGERY) | st.text(max_size=30))
def test_any_surgery(folder: Path, changes: Any) -> None:
    net = build(_NET, Allowed())
    layer = next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    text = changes if isinstance(changes, str) else _changed(_SURGERY, changes)
    (folder / SURGERY).write_text(text.replace("LAYER", layer))
    with contextlib.suppress(HoneError):
        build(_NET, Allowed(), operations_of(folder))


_PIECES = st.sampled_from(
    ["s0", "u1", "Symbol('s0')", "Integer(2)", "Max(", "Mod(", "FloorDiv(", "Pow(", "(", ")", ",",
     "2", "**", "*", "//", "%", "-", ".", "'", "lambda", "__import__", "os", "[", "]", "for", "in",
     " ", "=", "<", "Symbol(", "exec", "eval(", "9999999999", "e5", "\\", "\n", "#", ":="]
)  # fmt: skip


@fuzzed
@given(st.lists(_PIECES, max_size=12).map("".join) | st.text(max_size=20))
def test_any_symbolic_size(text: str) -> None:
    with contextlib.suppress(NotAllowed):
        found = checked_expression(text)
        assert checked_expression(found) == found
        for word in ("import", "os", "exec", "eval", "lambda", ".", "[", "'o"):
            assert word not in found.replace("0.", "").replace("2.", "").replace("9.", "")


@fuzzed
@given(
    st.lists(
        st.sampled_from(
            ["torch", "ops", "aten", "os", "system", "relu", "default", "_operator", "math", "ceil",
             "__class__", "higher_order", "cond", "from_file", "save", "set_", "source_Storage"]
        ) | st.text(max_size=4),
        max_size=6,
    ).map(".".join)
)  # fmt: skip
def test_any_function(text: str) -> None:
    if is_allowed(text):
        assert text.startswith(("torch.ops.", "torch.sym_", "_operator.", "math."))
        assert "os" not in text.split(".")
        assert "from_file" not in text
        assert "Storage" not in text
