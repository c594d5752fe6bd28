"""A model that comes trained: its weights in a file, no training split, no training."""

from __future__ import annotations

from pathlib import Path

import mlflow
import onnx
import pytest
import torch
from prefect_hone.recipe.factories import use_code
from safetensors.torch import load_model, save_model


def weights(project: Path) -> Path:
    """A model that was trained elsewhere."""
    use_code(project)
    import wine_data
    import wine_model

    torch.manual_seed(0)
    model, data = wine_model.net(32), wine_data.wine()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = data.train.tensors
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    save_model(model, str(project / "trained.safetensors"))
    return project / "trained.safetensors"


OPTIONS = [
    "--set", "train.epochs=0", "--set", "model.weights=trained.safetensors",
    "--set", "data.factory=wine_data:judged_only", "--set", "variants=[{name: fp32}]",
]  # fmt: skip


@pytest.mark.nightly
def test_it_is_judged_and_promoted_as_it_is(hone, project: Path) -> None:
    weights(project)
    outcome = hone.json("run", str(project / "recipe.yaml"), *OPTIONS)
    assert outcome["champion"] is not None
    assert outcome["baseline"]["quality/accuracy"] > 0.9, "the weights were used"
    assert any("no training" in note for note in outcome["notes"])
    plan = hone.json("plan", str(project / "recipe.yaml"), *OPTIONS)
    assert all(step["cached"] for step in plan["steps"])
    retrained = project / "trained.safetensors"
    retrained.write_bytes(bytes([*retrained.read_bytes()[:-1], 0]))
    plan = hone.json("plan", str(project / "recipe.yaml"), *OPTIONS)
    assert not any(step["cached"] for step in plan["steps"]), "other bytes, other steps"


def exported(project: Path) -> Path:
    """The same model as an ONNX file."""
    trained = weights(project)
    import wine_model

    model = wine_model.net(32).eval()
    load_model(model, trained)
    shapes = ({0: torch.export.Dim("n")},)
    made = torch.onnx.export(
        model, (torch.zeros(2, 13),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    onnx.save(made.model_proto, project / "wine.onnx")
    return project / "wine.onnx"


@pytest.mark.slow
def test_an_onnx_file_is_compressed_as_a_graph(hone, project: Path, monkeypatch) -> None:
    monkeypatch.chdir(project.parent)  # MLflow without a tracking URI writes where it is called
    path = exported(project)
    variants = (
        "[{name: int8, passes: [{kind: quantize, scheme: static-int8}]}, {name: thin, "
        "passes: [{kind: prune, method: channel, ratio: 0.5}]}]"
    )
    options = [
        "--set", "train.epochs=0", "--set", "data.factory=wine_data:judged_only",
        "--set", f"variants={variants}", "--set", "targets=[onnxruntime-cpu, inductor-cpu]",
    ]  # fmt: skip
    recipe = str(project / "recipe.yaml")
    outcome = hone.json("run", recipe, "--set", "model={source: wine.onnx}", *options)
    by_name = {c["name"]: c for c in outcome["candidates"]}
    assert outcome["champion"]["candidate"] == "int8@onnxruntime-cpu"
    assert outcome["baseline"]["quality/accuracy"] > 0.9
    assert by_name["int8@onnxruntime-cpu"]["metrics"]["parity/cosine"] > 0.99
    assert "prune needs a torch module" in by_name["thin@onnxruntime-cpu"]["error"]
    assert "inductor-cpu needs a torch module" in by_name["int8@inductor-cpu"]["error"]

    mlflow.set_tracking_uri(hone.tracking)
    given = mlflow.create_experiment("given", (project.parent / "given").as_uri())
    with mlflow.start_run(experiment_id=given):
        mlflow.onnx.log_model(onnx.load(path), name="wine", registered_model_name="given")
    mlflow.set_tracking_uri(None)
    plan = hone.json("plan", recipe, "--set", "model={source: 'models:/given/1'}", *options)
    assert plan["steps"]
    missing = "model={source: 'models:/nobody/1'}"
    done = hone.run("plan", recipe, "--set", missing, *options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "MLflow can't provide the model" in done.stderr


def test_missing_weights_and_missing_training_data_are_told(hone, project: Path) -> None:
    done = hone.run(
        "run", str(project / "recipe.yaml"), "--set", "model.weights=nowhere.safetensors"
    )
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert "model.weights: nowhere.safetensors" in done.stderr


@pytest.mark.nightly
def test_a_keras_file_goes_all_the_way_to_litert(hone, project: Path, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    made = keras.Sequential(
        [keras.Input((13,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    )
    made.save(project / "model.keras")
    outcome = hone.json(
        "run", str(project / "recipe.yaml"), "--set", "train.epochs=0",
        "--set", "data.factory=wine_data:judged_only",
        "--set", "model={factory: 'prefect_hone.ray_workers.model.incoming:keras_model', "
        "args: {path: model.keras}}",
        "--set", "variants=[{name: fp32}]", "--set", "targets=[litert, onnxruntime-cpu]",
        KERAS_BACKEND="torch",
    )  # fmt: skip
    by_name = {c["name"]: c for c in outcome["candidates"]}
    assert by_name["fp32@litert"]["status"] == "passed", by_name["fp32@litert"]
    for name in ("fp32@litert", "fp32@onnxruntime-cpu"):
        assert by_name[name]["metrics"]["parity/max_abs_error"] < 1e-5, by_name[name]
