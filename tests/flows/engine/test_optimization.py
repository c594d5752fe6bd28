"""A trained model in the place of a recipe's own: as weights, or as the source."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.flows.engine import optimization
from prefect_hone.flows.engine.optimization import open_optimization
from prefect_hone.flows.engine.pinned_model import pinned
from prefect_hone.ray_workers.store.file_names import WEIGHTS

URI = "models:/digits@champion"
BY_SOURCE = """
name: mine
model: {source: model.onnx}
data: {factory: "prefect_hone.recipe.examples.digits.digits_data:digits"}
train: {epochs: 0, batch_size: 8}
targets: [onnxruntime-cpu]
registry: {model: mine}
"""


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What trained weights were asked for."""
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    for name in ("HONE_ALLOWED_PREFIXES", "HONE_ALLOWED_PATHS", "HONE_STORE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str] = []

    def download(uri: str, tracking: str, folder: str, where: str) -> Path:
        asked.append(uri)
        found = Path(folder) / "model.safetensors"
        found.write_bytes(b"the weights")
        return found

    monkeypatch.setattr(optimization, "download_trained_weights", download)
    return asked


def test_a_factory_gets_the_weights_and_is_not_trained(downloads: list[str]) -> None:
    recipe, session = open_optimization(f" {URI} ", "digits", ["benchmark.threads=2"])
    assert (recipe.train.epochs, recipe.benchmark.threads) == (0, 2)
    assert recipe.model.weights == URI
    assert downloads == [URI]
    place = pinned(recipe, session).model.weights
    assert place is not None
    assert Path(place).name == WEIGHTS
    assert Path(place).read_bytes() == b"the weights"


def test_a_source_is_replaced(downloads: list[str]) -> None:
    recipe, _ = open_optimization(URI, BY_SOURCE, ["train.epochs=9"])
    assert (recipe.model.source, recipe.model.weights, recipe.train.epochs) == (URI, None, 0)
    assert downloads == []


def test_a_uri_is_one_value_whatever_it_holds(downloads: list[str]) -> None:
    odd = "models:/x', weights: '/etc/hostname"
    recipe, _ = open_optimization(odd, BY_SOURCE)
    assert (recipe.model.source, recipe.model.weights) == (odd, None)
    recipe, _ = open_optimization("models:/x: y #z", "digits")
    assert recipe.model.weights == "models:/x: y #z"
