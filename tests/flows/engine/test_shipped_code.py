"""Which files of a code folder are shipped: modules and data, no keys and no environments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect_hone import load_recipe
from prefect_hone.flows.cli.tables import show_code
from prefect_hone.flows.engine.shipped_code import shipped_code
from prefect_hone.flows.engine.user_code import identify, pack
from prefect_hone.ray_workers.store.artifacts import Store
from prefect_hone.recipe.errors import InputError
from rich.console import Console


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    for name in (
        "model.py", "recipe.yaml", "README.md", "notes.pyc", "package/__init__.py",
        "package/vocab.txt", "package/labels.json", "package/config.yaml", "package/ops.cpp",
        "package/py.typed", "tokenizer.json", ".env", ".git/config", "__pycache__/model.pyc",
        "build/model.py", "id_rsa", "id_rsa.pub", "server.pem", "tls.key", "secrets.json",
        "secrets.py", "credentials.json", "service-account-42.json", "Secrets.YAML", "prod.env",
        "venv/pyvenv.cfg", "venv/lib/site.py", "conda/conda-meta/history", "secrets/data.csv",
        "package/program.exe", "data.sqlite",
    ):  # fmt: skip
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("content")
    (code / "model.py").write_text("WORDS = open('tokenizer.json')  # not labels.csv\n")
    (code / "labels.csv").write_text("content")
    (code / "out.json").write_text("content")
    (code / "alias.py").symlink_to("model.py")
    (code / "again").symlink_to("package")
    (code / "plain.json").symlink_to("secrets.json")
    (code / "gone.py").symlink_to("nowhere.py")
    (tmp_path / "data").mkdir()
    (code / "elsewhere").symlink_to(tmp_path / "data")
    os.mkfifo(code / "pipe.py")
    return code


def test_modules_and_data_are_shipped_and_the_rest_is_told(folder: Path) -> None:
    shipped = shipped_code(folder)
    package = ("__init__.py", "vocab.txt", "labels.json", "config.yaml", "ops.cpp", "py.typed")
    assert set(shipped.files) == {
        "model.py", "alias.py", "tokenizer.json",
        *(f"{folder}/{name}" for folder in ("package", "again") for name in package),
    }  # fmt: skip
    assert shipped.size == sum(path.stat().st_size for path in shipped.files.values())
    secret = "named like a key or a password"
    assert shipped.left_out == {
        **dict.fromkeys(
            (".env", "id_rsa", "id_rsa.pub", "server.pem", "tls.key", "secrets.json", "secrets.py",
             "credentials.json", "service-account-42.json", "Secrets.YAML", "prod.env"),
            secret,
        ),
        "secrets/": "named like secrets",
        "venv/": "a Python environment",
        "conda/": "a Python environment",
        "elsewhere/": "a link to data elsewhere",
        "gone.py": "a link to nothing",
        "plain.json": "a link to what is not shipped",
        **dict.fromkeys(
            ("labels.csv", "out.json"),
            "data that neither the code nor the recipe names (see `code_files`)",
        ),
        "pipe.py": "not a regular file",
        **dict.fromkeys(("again/program.exe", "package/program.exe"), "neither a Python module nor data of a known kind"),
        "data.sqlite": "neither a Python module nor data of a known kind",
    }  # fmt: skip


def test_what_is_packed_is_what_is_shipped_and_private(folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")
    artifact = pack(folder, store)
    assert artifact is not None
    assert set(artifact.files) == set(shipped_code(folder).files)
    kept = Path(artifact.uri)
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept.rglob("*") if path.is_file())


def test_a_folder_of_data_is_not_code(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("WEIGHTS = 'arrays/large.npy'\n")
    (tmp_path / "arrays").mkdir()
    with (tmp_path / "arrays" / "large.npy").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match=r"more than 64 MB .*: arrays/large.npy \(68.16 MB\)"):
        shipped_code(tmp_path)
    (tmp_path / "model.py").write_text("")
    assert set(shipped_code(tmp_path).files) == {"model.py"}


@pytest.mark.parametrize("name", ["helper.py", "package", "words.txt"])
def test_a_link_that_leads_out_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    away = tmp_path / "away"
    (away / "package").mkdir(parents=True)
    for file in ("helper.py", "words.txt", "package/__init__.py"):
        (away / file).write_text("content")
    code = tmp_path / "code"
    code.mkdir()
    (code / name).symlink_to(away / name)
    with pytest.raises(InputError, match=f"'{name}' is a link that leads out of the folder"):
        shipped_code(code)


def test_folders_that_are_linked_in_a_circle_are_shipped_once(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "part.py").write_text("")
    (tmp_path / "package" / "up").symlink_to(tmp_path)
    (tmp_path / "package" / "self").symlink_to(tmp_path / "package")
    shipped = shipped_code(tmp_path)
    assert set(shipped.files) == {"model.py", "package/part.py"}
    assert set(shipped.left_out) == {"package/up/", "package/self/"}


def test_what_is_written_into_the_folder_changes_no_key(project: Path) -> None:
    recipe = load_recipe(project / "recipe.yaml")
    before = identify(recipe, project)
    for name in ("out.json", "report.html", "mlruns/0/meta.yaml", "runs/table.csv", "large.npy"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("{}")
    assert identify(recipe, project) == before
    declared = load_recipe(project / "recipe.yaml", ["code_files=[runs/*.csv]"])
    assert "runs/table.csv" in shipped_code(project, declared).files
    named = load_recipe(project / "recipe.yaml", ["data.args={table: runs/table.csv}"])
    assert "runs/table.csv" in shipped_code(project, named).files


@pytest.mark.parametrize("model", ["weights: ./model.safetensors", "source: model.pt2"])
def test_the_recipes_own_model_is_not_told_to_be_left_out(project: Path, model: str) -> None:
    for name in ("model.safetensors", "model.pt2"):
        (project / name).write_bytes(b"0")
    origin = "factory: models:net, " if model.startswith("weights") else ""
    recipe = load_recipe(project / "recipe.yaml", [f"model={{{origin}{model}}}", "train.epochs=0"])
    left_out = shipped_code(project, recipe).left_out
    assert len({"model.safetensors", "model.pt2"} & left_out.keys()) == 1
    assert Path(model.partition(": ")[2]).name not in left_out


def test_the_plan_tells_what_is_shipped(folder: Path) -> None:
    console = Console(record=True, width=400)
    show_code(console, shipped_code(folder))
    first, *rest = console.export_text().splitlines()
    assert first.startswith("code: 15 files (189 B) go to the workers and to MLflow: again/__init")
    assert "code: left out as a Python environment: conda/, venv/" in rest
    assert any("id_rsa" in line and "named like a key" in line for line in rest)
