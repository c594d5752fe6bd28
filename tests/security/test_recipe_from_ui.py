"""A recipe from the Prefect UI or an event: it is planned as a worker plans it, and reaches nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.flows.engine.plan import make_plan
from prefect_hone.flows.engine.request import open_request
from prefect_hone.recipe.access_policy import Origin
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import READ, SOURCES

EXAMPLES = "prefect_hone.recipe.examples"
NET = f"{EXAMPLES}.digits.digits_model:small_resnet"
BASE: dict[str, Any] = {
    "name": "hostile",
    "model": {"factory": NET},
    "data": {"factory": f"{EXAMPLES}.digits.digits_data:digits"},
    "train": {"epochs": 0, "batch_size": 8},
    "targets": ["onnxruntime-cpu"],
    "registry": {"model": "hostile"},
}
DISTILL = {"kind": "distill", "factory": NET}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    for name in ("HONE_ALLOWED_PREFIXES", "HONE_ALLOWED_PATHS", "HONE_STORE", "RAY_ADDRESS",
                 "MLFLOW_TRACKING_URI"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def refused(home: Path, origin: Origin = Origin.PARAMETER, **changed: Any) -> str:
    """What is said of the recipe; nothing of it is in the store, and nothing was imported."""
    before = set(sys.modules)
    with pytest.raises(InputError) as caught:
        make_plan(*open_request(json.dumps({**BASE, **changed}), origin=origin))
    assert not [path for path in home.rglob("*") if path.is_file()]
    named = {"antigravity", "webbrowser", "this", "turtle"}
    assert not named & (set(sys.modules) - before)
    return str(caught.value)


PATHS = [
    "/etc", "/etc/passwd", "/root/.ssh", "/root/.ssh/id_rsa", "/proc/self/environ", "/dev/zero",
    "../../../../etc/passwd", "~/.aws/credentials", "file:///etc/passwd", "file:/etc/passwd",
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest",
    "http://metadata.google.internal/", "http://127.0.0.1:4200/api", "https://example.com/w",
    "s3://somebodys/bucket", "simplecache::s3://b/w", "simplecache::file:///etc/passwd",
    "zip://a::/etc/a.zip", "github://o:r@main/w", "ftp://example.com/w", "memory://w",
    "models:/../../etc/1", "models://other.example/m/1", "runs:/../x", "mlflow-artifacts:/0/x",
]  # fmt: skip


@pytest.mark.parametrize("origin", [Origin.PARAMETER, Origin.EVENT])
@pytest.mark.parametrize("path", PATHS)
def test_files_and_urls(home: Path, path: str, origin: Origin) -> None:
    training = {"epochs": 1, "batch_size": 8}
    reader = {"kind": "distill", "factory": READ, "args": {"path": path}}
    for field, changed in {
        "model.weights": {"model": {"factory": NET, "weights": path}},
        "model.source": {"model": {"source": path}},
        "model.args.path": {"model": {"factory": READ, "args": {"path": path}}},
        "train.objective.weights": {"train": {**training, "objective": {**DISTILL,
                                                                        "weights": path}}},
        "train.objective.args.path": {"train": {**training, "objective": reader}},
        "variants.0.passes.0.args.path": {
            "train": training,
            "variants": [{"name": "small", "passes": [{**reader, "epochs": 1}]}],
        },
    }.items():  # fmt: skip
        assert refused(home, origin, **changed).startswith(f"{field}: ")


IMPORTS = [
    "os:system", "os:popen", "subprocess:run", "builtins:eval", "builtins:exec", "posix:system",
    "importlib:import_module", "runpy:run_path", "pickle:loads", "shutil:rmtree", "ctypes:CDLL",
    "antigravity:geohash", "webbrowser:open", "code:interact", "pty:spawn", "torch:load",
    "torch.hub:load", "numpy:load", "mlflow.pyfunc:load_model", "transformers:pipeline",
    "prefect_hone:accelerate", "prefect_hone.recipe.factories:use_code",
    "prefect_hone.recipe.factories:importlib", "prefect_hone.ray_workers.model.incoming:_local",
    "prefect_hone.ray_workers.model.incoming:torch", "prefect_hone.runtimes.child:main",
    f"{EXAMPLES}.digits.digits_model:torch", f"{EXAMPLES}.digits.digits_model:nn",
    f"{EXAMPLES}.charlm.charlm_data:text", f"{EXAMPLES}:charlm",
]  # fmt: skip


@pytest.mark.parametrize("path", IMPORTS)
def test_import_paths(home: Path, path: str) -> None:
    training = {"epochs": 1, "batch_size": 8}
    own = {"kind": "import", "factory": path}
    for changed in (
        {"model": {"factory": path}},
        {"data": {"factory": path}},
        {"quality": {"metric": path, "higher_is_better": True}},
        {"train": {**training, "loss": path}},
        {"train": {**training, "objective": {**DISTILL, "factory": path}}},
        {"train": {**training, "optimizer": {"name": "import", "factory": path}}},
        {"targets": [{**own, "takes": "graph"}]},
        {"targets": [{**own, "factory": path.partition(":")[0], "takes": "graph"}]},
        {"variants": [{"name": "v", "passes": [{**own, "works_on": "graph"}]}]},
    ):
        said = refused(home, **changed)
        assert "outside the allowed prefixes" in said or "can't name what is private" in said


@pytest.mark.parametrize("code", [".", "/etc", "~", "/", "s3://bucket/code", "a\0b"])
def test_a_code_folder(home: Path, code: str) -> None:
    refused(home, code=code)


@pytest.mark.parametrize("field", ["data", "quality", "loss"])
def test_readers_in_other_fields(home: Path, field: str) -> None:
    changed: dict[str, Any] = {
        "data": {"data": {"factory": f"{SOURCES}:program", "args": {"path": "/etc/passwd"}}},
        "quality": {"quality": {"metric": READ, "higher_is_better": True}},
        "loss": {"train": {"epochs": 1, "batch_size": 8, "loss": READ}},
    }[field]
    assert "can be only a model, a teacher or a student" in refused(home, **changed)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "/etc/../etc/shadow", "~/.bashrc", "/dev/stdin", "s3://bucket/r.yaml"]
)
def test_the_file_of_a_recipe(name: str) -> None:
    with pytest.raises(InputError):
        open_request(name)
