"""Any bytes as a model's file are read or refused with a sentence, and nothing of them runs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from prefect_hone.ray_workers.model import keras_file, program_file, transformers_folder
from prefect_hone.ray_workers.model.module import build
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


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += _places(inner, (*path, key))
    return found


def _set(values: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def _changes(value: Any) -> st.SearchStrategy[list[tuple[tuple[Any, ...], Any]]]:
    return st.lists(st.tuples(st.sampled_from(_places(value)), _PLAIN), min_size=1, max_size=3)


def _changed(value: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> str:
    copy = json.loads(json.dumps(value))
    for path, new in changes:
        with contextlib.suppress(LookupError, TypeError):  # another change was there before
            _set(copy, path, new)
    return json.dumps(copy)


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
