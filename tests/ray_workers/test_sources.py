"""Models from transformers folders, exported programs and Keras files; hostile files are refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from prefect_hone.ray_workers.sources import keras_model, program, transformers_model
from prefect_hone.ray_workers.splits import call
from prefect_hone.recipe.errors import InputError
from torch import nn


def test_a_transformers_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    made = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            vocab_size=100, num_labels=3,
        )
    ).eval()  # fmt: skip
    made.save_pretrained(tmp_path / "bert")
    loaded = transformers_model(str(tmp_path / "bert")).eval()
    inputs = {"input_ids": torch.arange(12).reshape(2, 6)}
    assert torch.allclose(call(loaded, inputs), call(made, inputs))
    assert call(loaded, inputs).shape == (2, 3)

    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(made.state_dict(), tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(InputError, match="the weights can't be loaded"):
        transformers_model(str(tmp_path / "bert"))
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(InputError, match="this is no transformers model"):
        transformers_model(str(tmp_path / "bert"))


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, nn.Module, torch.Tensor]:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = torch.randn(5, 4)
    axis = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(model, (x,), dynamic_shapes=({0: axis},)), tmp_path / "model.pt2"
    )
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
    with pytest.raises(InputError, match="this is no model archive"):
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
