"""Keras files that reach for code or files: refused before Keras reads them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.ray_workers.model.keras_file import write_checked
from prefect_hone.recipe.errors import InputError

DENSE: dict[str, Any] = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {
        "units": 2,
        "activation": {
            "module": "builtins", "class_name": "function", "config": "relu",
            "registered_name": "function",
        },
        "kernel_initializer": {
            "module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None},
            "registered_name": None,
        },
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    },
    "registered_name": None,
}  # fmt: skip


def checked(folder: Path, *layers: dict[str, Any], **members: bytes) -> dict[str, Any]:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": list(layers)}}
    files = {
        "config.json": json.dumps(config).encode(),
        "metadata.json": b"{}",
        "model.weights.h5": b"",
        **members,
    }
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return write_checked(folder / "m.keras", folder / "checked.keras", "model")


def test_layers_of_keras_are_kept(tmp_path: Path) -> None:
    assert checked(tmp_path, DENSE)["config"]["layers"] == [DENSE]


def layer(name: str, module: Any = "keras.layers", **more: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {}, "registered_name": None, **more}


@pytest.mark.parametrize(
    "hostile",
    [
        layer("Lambda"),
        layer("TFSMLayer", config={"filepath": "/tmp/x"}),
        layer("TorchModuleWrapper", config={"module": "pickle"}),
        layer("StringLookup", config={"vocabulary": "/etc/passwd"}),
        layer("TextVectorization"),
        layer("FlaxLayer"),
        layer("get_file", "keras.utils"),
        layer("Popen", "subprocess"),
        layer("Dense", "os"),
        layer("Dense", registered_name="own>Evil"),
        layer("Dense", 3),
        layer("__lambda__", None),
        layer("function", "builtins", config="eval()"),
        layer("function", "os", config="system"),
        layer("__typespec__", spec_name="X"),
        layer("Cond", "keras.src.ops.core"),
        layer("enable_unsafe_deserialization", "keras.config"),
        {**DENSE, "config": {"activation": layer("function", "os", config="system")}},
        {**DENSE, "config": {"a": [{"b": [layer("Lambda")]}]}},
        {"class_name": ["Dense"], "config": {}},
    ],
    ids=lambda value: str(value["class_name"]),
)
def test_classes_that_are_not_known_are_refused(tmp_path: Path, hostile: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"Keras can't load the model: it has a (Lambda|layer|fun)"
    ):
        checked(tmp_path, hostile)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"evil.py": b"x"}, "is no part of a .keras file"),
        ({"model.pkl": b"\x80"}, "it is a pickle"),
        ({"assets/vocabulary.txt": b"x"}, "is a file of a layer"),
        ({"config.json": b"[" * 100_000}, "nested too deeply"),
        ({"config.json": b"[]"}, "no Functional or Sequential model"),
        ({"config.json": json.dumps(layer("Popen", "subprocess")).encode()}, "no Functional"),
    ],
)
def test_other_members_are_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked(tmp_path, DENSE, **members)


def test_what_would_be_compiled_is_left_out(tmp_path: Path) -> None:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [DENSE]},
              "compile_config": {"loss": "mse"}}  # fmt: skip
    found = checked(tmp_path, **{"config.json": json.dumps(config).encode()})
    assert found["compile_config"] is None
