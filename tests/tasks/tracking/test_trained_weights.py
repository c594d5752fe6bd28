"""The weights behind a version or a run, as MLflow's own client finds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.trained_weights import download_trained_weights


@pytest.fixture
def tracking(tmp_path: Path, databases: Path) -> str:
    shutil.copyfile(databases / "mlflow.db", tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_they_are_found_from_whatever_came_of_them(tracking: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    experiment = client.create_experiment("wine", artifact_location=str(tmp_path / "artifacts"))
    (tmp_path / "model.safetensors").write_bytes(b"the weights")

    def run(name: str, **tags: str) -> str:
        return client.create_run(experiment, run_name=name, tags=tags).info.run_id

    first = run("wine 1", **{names.KIND: "pipeline"})
    trained = run("train", **{names.KIND: "train", names.MLFLOW_PARENT: first})
    client.log_artifact(trained, str(tmp_path / "model.safetensors"), "weights")
    second = run("wine 2", **{names.KIND: "pipeline"})
    run(
        "train",
        **{
            names.KIND: "train",
            names.MLFLOW_PARENT: second,
            names.computed_in("train"): trained,
        },
    )
    candidate = run("int8", **{names.KIND: "candidate", names.MLFLOW_PARENT: second})
    alone = run("another's")
    client.create_registered_model("wine")
    version = client.create_model_version(
        "wine", source=str(tmp_path), tags={names.PARENT_RUN: second}
    ).version
    client.set_registered_model_alias("wine", "champion", version)
    client.create_model_version("wine", source=str(tmp_path))

    for number, uri in enumerate(
        (f"models:/wine/{version}", "models:/wine@champion", f"runs:/{first}", f"runs:/{second}",
         f"runs:/{trained}", f"runs:/{candidate}")
    ):  # fmt: skip
        (into := tmp_path / f"into{number}").mkdir()
        found = download_trained_weights(uri, tracking, str(into), "model")
        assert found.read_bytes() == b"the weights", uri

    for uri, said in (
        (f"runs:/{alone}", "no weights that Hone trained"),
        ("models:/wine/2", "names no run"),
        ("models:/wine/9", "MLflow can't provide it"),
        ("models:/wine@none", "MLflow can't provide it"),
        ("models:/wine", "no version and no run"),
        ("/etc/passwd", "no version and no run"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            download_trained_weights(uri, tracking, str(tmp_path), "model")
        assert caught.value.where == f"model: {uri}"
