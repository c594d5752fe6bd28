"""What a person gets for a mistake: a sentence with its place, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def refused(hone, *arguments: str, code: int = 2, **environment: str) -> str:
    done = hone.run(*arguments, timeout=480, **environment)
    return sentence(done, code)


def sentence(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["train.epohcs=3"], "did you mean 'epochs'?"),
        (["train.epochs=three"], '--set train.epochs=three: train.epochs: got "three"'),
        (["quality.metric=acuracy"], "did you mean 'accuracy'?"),
        (["targets=[openvino-cpuu]"], "did you mean 'openvino-cpu'?"),
        (["variants.int8.passes.0.kind=quantise"], "did you mean 'quantize'?"),
        (["model.factory=os:system"], "outside the allowed prefixes"),
        (["train.mesh.data=0"], "greater than or equal to 1"),
        (["train.mesh.data=64", "train.batch_size=64"], "64 workers with 1 CPU each need 64 CPUs"),
        (["train.resources.gpus=1"], "GPU"),
        (["code=nowhere"], "there is no such folder"),
    ],
)
def test_a_mistake_is_refused_before_anything_starts(
    hone, project: Path, options: list[str], said: str
) -> None:
    arguments = [part for option in options for part in ("--set", option)]
    text = sentence(hone.answer("run", str(project / "recipe.yaml"), *arguments))
    assert said in text
    assert {path.name for path in hone.home.iterdir()} == {"mlflow.db"}, "nothing was started"


def test_a_missing_recipe(hone) -> None:
    assert "there is no such recipe" in sentence(hone.answer("run", "nowhere.yaml"))


def test_an_unknown_option(hone) -> None:
    assert "No such option" in sentence(hone.answer("run", "digits", "--fast"))


def test_a_target_that_is_not_installed(
    hone, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'openvino' else real(n, *a)\n"
    )
    said = refused(
        hone, "run", str(project / "recipe.yaml"), "--set", "targets=[openvino-cpu]",
        PYTHONPATH=str(hidden),
    )  # fmt: skip
    assert "openvino is not installed" in said
    assert "pip install 'prefect-hone[openvino]'" in said


@pytest.mark.slow
def test_mlflow_unreachable_at_the_start(hone, project: Path) -> None:
    said = refused(
        hone, "run", str(project / "recipe.yaml"), code=1,
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )  # fmt: skip
    assert "MLflow does not answer" in said
    assert "http://127.0.0.1:9" in said


def test_prefect_unreachable_at_the_start(hone, project: Path) -> None:
    said = refused(
        hone, "run", str(project / "recipe.yaml"), code=1,
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )  # fmt: skip
    assert "the Prefect server does not answer" in said
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in said


def test_ray_unreachable_at_the_start(hone, project: Path) -> None:
    """Told before Ray is imported."""
    said = sentence(
        hone.answer("run", str(project / "recipe.yaml"), RAY_ADDRESS="127.0.0.1:9"), code=1
    )
    assert "RAY_ADDRESS=127.0.0.1:9: the Ray cluster does not answer" in said


@pytest.mark.nightly
def test_what_only_a_worker_can_find_out_is_said_the_same_way(hone, project: Path) -> None:
    said = refused(
        hone, "run", str(project / "recipe.yaml"), "--set", "model.factory=wine_model:raises",
        "--set", "model.args={}",
    )  # fmt: skip
    assert "ValueError: no such weights" in said


@pytest.mark.nightly
def test_a_full_disk_in_the_artifact_store(hone, project: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False,
        capture_output=True,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("a small file system can't be mounted here (needs root)")
    try:
        said = refused(
            hone, "run", str(project / "recipe.yaml"), "--set", "model.args={width: 256}",
            code=1, HONE_STORE=str(small),
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
    assert "no space left" in said
    assert "HONE_STORE" in said
