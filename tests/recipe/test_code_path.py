"""A code folder next to Python's own modules: neither hides the other."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_hone.recipe.code_path import put_on_path, reserved_in, take_off_path
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name in ("secrets", "uvicorn", "antigravity", "mine_of_code_path"):
        (tmp_path / f"{name}.py").write_text("def model(): return 'mine'")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "typing_extensions").mkdir()  # a folder of data
    yield tmp_path
    for name in ("antigravity", "mine_of_code_path"):
        sys.modules.pop(name, None)


def test_modules_of_python_and_of_libraries_are_not_hidden(folder: Path) -> None:
    code = (
        "import sys; from prefect_hone.recipe.code_path import put_on_path\n"
        f"put_on_path({str(folder)!r})\n"
        "import secrets, uvicorn, typing_extensions\n"
        "assert secrets.token_hex and uvicorn.run and typing_extensions.Self\n"
        "import antigravity, mine_of_code_path\n"
        "assert antigravity.model() == mine_of_code_path.model() == 'mine'\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_users_module_comes_before_an_installed_one(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path_factory.mktemp("installed")
    (installed / "mine_of_code_path.py").write_text("def model(): return 'old'")
    monkeypatch.syspath_prepend(str(installed))
    put_on_path(str(folder))
    try:
        assert importlib.import_module("mine_of_code_path").model() == "mine"
    finally:
        take_off_path(str(folder))
    assert str(folder) not in sys.path
    sys.modules.pop("mine_of_code_path")
    assert importlib.import_module("mine_of_code_path").model() == "old"


def test_what_is_not_used_is_told(folder: Path) -> None:
    assert reserved_in(folder) == ["secrets.py", "torch", "uvicorn.py"]


def test_a_recipe_that_names_one_gets_a_sentence(folder: Path) -> None:
    allowed = Allowed.from_environment(folder)
    assert "secrets" not in allowed.modules
    with pytest.raises(InputError, match=r"'secrets' is outside .* is a module of Python"):
        allowed.check("secrets:model", "model.factory")
