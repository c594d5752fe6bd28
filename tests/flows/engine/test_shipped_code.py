"""Which files of a code folder are shipped: modules and data, no keys and no environments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect_hone.flows.cli.tables import show_code
from prefect_hone.flows.engine.shipped_code import shipped_code
from prefect_hone.flows.engine.user_code import pack
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
    (code / "linked.py").symlink_to("/etc/passwd")
    (code / "elsewhere").symlink_to("/etc")
    os.mkfifo(code / "pipe.py")
    return code


def test_modules_and_data_are_shipped_and_the_rest_is_told(folder: Path) -> None:
    shipped = shipped_code(folder)
    assert set(shipped.files) == {
        "model.py", "package/__init__.py", "package/vocab.txt", "package/labels.json",
        "package/config.yaml", "package/ops.cpp", "package/py.typed", "tokenizer.json",
    }  # fmt: skip
    assert shipped.size == 8 * len("content")
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
        "elsewhere/": "a link",
        "linked.py": "a link",
        "pipe.py": "not a regular file",
        "package/program.exe": "neither a Python module nor data of a known kind",
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
    with (tmp_path / "large.npy").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match="more than 64 MB"):
        shipped_code(tmp_path)


def test_the_plan_tells_what_is_shipped(folder: Path) -> None:
    console = Console(record=True, width=400)
    show_code(console, shipped_code(folder))
    first, *rest = console.export_text().splitlines()
    assert first.startswith("code: 8 files (56 B) go to the workers and to MLflow: model.py, ")
    assert "code: left out as a Python environment: conda/, venv/" in rest
    assert any("id_rsa" in line and "named like a key" in line for line in rest)
