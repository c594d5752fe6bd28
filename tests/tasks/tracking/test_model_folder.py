"""What MLflow holds of a candidate is what was measured, all of it, or it is not used."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from prefect_hone.recipe.errors import HoneError
from prefect_hone.runtimes.circumstances import Circumstances
from prefect_hone.runtimes.manifest import MANIFEST, model_files
from prefect_hone.runtimes.proof import Proof, Synthetic
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.model_folder import write_model
from prefect_hone.tasks.tracking.registered_bytes import held_files

from ...support.logged_models import X, logged, store, times


@pytest.fixture
def uri(databases: Path, tmp_path: Path) -> str:
    return store(databases, tmp_path / "mlflow")


def place_of(uri: str, model_id: str) -> Path:
    return Path(mlflow.MlflowClient(uri).get_logged_model(model_id).artifact_location)


def test_the_same_candidate_gives_the_same_bytes(tmp_path: Path) -> None:
    entry = times(tmp_path)
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written.append(write_model(entry, tmp_path / name / "model", tmp_path / name))
    assert written[0] == written[1] == model_files(tmp_path / "a" / "model")
    assert {"MLmodel", MANIFEST, "requirements.txt", "data/data/hone.json"} <= set(written[0])
    assert any(path.startswith("code/hone_runtimes") for path in written[0])
    assert "input_example.json" in written[0]
    listed = json.loads((tmp_path / "a" / "model" / MANIFEST).read_text())["files"]
    assert listed == {path: digest for path, digest in written[0].items() if path != MANIFEST}


def test_a_proof_is_among_the_files_of_the_manifest(tmp_path: Path) -> None:
    entry = times(tmp_path, measured=2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = write_model(entry, tmp_path / name / "model", tmp_path / name)
    assert files == model_files(tmp_path / "a" / "model")
    proof = {path.removeprefix("data/data/proof/") for path in files if "/proof/" in path}
    assert proof == {"proof.json", "input-0.npy", "output.npy"}
    assert np.array_equal(mlflow.pyfunc.load_model(str(tmp_path / "a" / "model")).predict(X), 2 * X)


def test_no_data_leave_with_a_model_that_may_not_carry_them(tmp_path: Path) -> None:
    synthetic = Synthetic("float32", (8, 3), -1.0, 1.0)
    drawn = {"input": synthetic.values(1)}
    here = Circumstances("x86_64", (), {}, 1)
    Proof.of(drawn, 2 * drawn["input"], 40.0, here).write(
        tmp_path / "proof", (1, {"input": synthetic})
    )
    entry = times(tmp_path).model_copy(update={"example": ""})
    carried = entry.model_copy(update={"proof": str(tmp_path / "proof"), "proof_kind": "synthetic"})
    for name, one in (("off", entry), ("synthetic", carried)):
        (tmp_path / name).mkdir()
        files = write_model(one, tmp_path / name / "model", tmp_path / name)
        assert ("input_example.json" in files) == (name == "synthetic")
        assert not any("input-" in path for path in files)
        for path in files:
            assert X.tobytes() not in (tmp_path / name / "model" / path).read_bytes()
        model = mlflow.pyfunc.load_model(str(tmp_path / name / "model"))
        assert np.array_equal(model.predict(X), 2 * X)


def test_an_artifact_that_changed_in_the_store_is_not_logged(tmp_path: Path) -> None:
    entry = times(tmp_path)
    with (Path(entry.folder) / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(HoneError, match="not the one that was measured"):
        write_model(entry, tmp_path / "model", tmp_path / "scratch")


def test_a_model_that_is_there_is_used_again(uri: str, tmp_path: Path) -> None:
    entry = times(tmp_path)
    first, model_id = logged(uri, tmp_path, entry)
    again, same = logged(uri, tmp_path, entry)
    assert model_id == same
    assert again.files == first.files
    assert again.files[entry.ref] == held_files(uri, model_id)
    assert not again.doubts


@pytest.mark.parametrize("what", ["MLmodel", "code", "hone.json", "requirements", "link", "gone"])
def test_a_planted_model_is_not_adopted(uri: str, tmp_path: Path, what: str) -> None:
    """It has every tag of Hone's own, and the measured artifact; another file differs."""
    entry = times(tmp_path)
    _, planted = logged(uri, tmp_path, entry)
    place = place_of(uri, planted)
    match what:
        case "MLmodel":
            text = (place / "MLmodel").read_text()
            (place / "MLmodel").write_text(text.replace("served_model", "evil"))
        case "code":
            (place / "code" / "evil.py").write_text("raise SystemExit")
        case "hone.json":
            text = (place / "data" / "data" / "hone.json").read_text()
            (place / "data" / "data" / "hone.json").write_text(text + " ")
        case "requirements":
            (place / "requirements.txt").write_text("evil")
        case "link":
            (place / "data" / "data" / "artifact" / "more").symlink_to("/etc/passwd")
        case "gone":
            for path in sorted(place.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    sender, fresh = logged(uri, tmp_path, entry)
    assert fresh != planted
    assert held_files(uri, fresh) == sender.files[entry.ref]
    (doubt,) = sender.doubts
    assert planted in doubt
    assert "it was not used" in doubt


def test_a_candidates_name_with_quotes_is_not_part_of_a_filter(uri: str, tmp_path: Path) -> None:
    entry = times(tmp_path)
    entry = entry.model_copy(update={"tags": {**entry.tags, names.CANDIDATE: "it's `x` = 'y'"}})
    _, first = logged(uri, tmp_path, entry)
    _, again = logged(uri, tmp_path, entry)
    assert first == again


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("rewritten", "the registry says"),
        ("no manifest", "manifest is missing"),
        ("code", "code/evil.py"),
        ("wheel", "code/hone_runtimes"),
        ("none", None),
    ],
)
def test_a_tampered_champion_does_not_load(
    uri: str, tmp_path: Path, change: str, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose files were all rewritten, with a digest beside them that fits."""
    entry, other = times(tmp_path), times(tmp_path / "other", 3)
    sender, model_id = logged(uri, tmp_path, entry)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("wine")
    from prefect_hone.runtimes.manifest import manifest_digest

    client.create_model_version(
        "wine", f"models:/{model_id}", model_id=model_id,
        tags={names.DIGEST: manifest_digest(sender.files[entry.ref])},
    )  # fmt: skip
    place = place_of(uri, model_id)
    (wheel,) = (place / "code").iterdir()
    match change:
        case "rewritten":
            import shutil

            shutil.rmtree(place)
            (tmp_path / "scratch").mkdir()
            write_model(other, place, tmp_path / "scratch")
        case "no manifest":
            (place / MANIFEST).unlink()
        case "code":
            (place / "code" / "evil.py").write_text("")
        case "wheel":
            wheel.write_bytes(wheel.read_bytes() + b"\0")
    if why is None:
        model = mlflow.pyfunc.load_model("models:/wine/1")
        assert np.array_equal(model.predict(X), 2 * X)
    else:
        with pytest.raises(Exception, match="the files differ from the measured artifact") as error:
            mlflow.pyfunc.load_model("models:/wine/1")
        assert why in str(error.value)
