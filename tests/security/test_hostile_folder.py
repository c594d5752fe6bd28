"""A folder full of modules with the names of Python's and of libraries: nothing in it is run, and it
breaks nothing. By accident, too: a `secrets.py` with passwords lies beside many a script.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.flows.cli import prefect_server

NAMES = (
    "secrets", "types", "re", "ssl", "socket", "json", "numpy", "torch", "uvicorn", "ray", "mlflow",
    "prefect", "pydantic", "sqlalchemy", "onnx", "onnxruntime", "typing_extensions",
    "sitecustomize", "usercustomize",
)  # fmt: skip


def hostile(folder: Path) -> Path:
    """A folder with such modules; each tells if it is run."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'executed')!r}, 'a').write('{name}\\n'); raise SystemExit(1)\n"
        )
    return folder


@pytest.mark.parametrize("command", [["--version"], ["targets"], ["doctor"], ["plan", "digits"]])
def test_commands_run_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hone: Any, command: list[str]
) -> None:
    monkeypatch.chdir(hostile(tmp_path / "folder"))
    done = hone.run(*command)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), done.stderr
    assert not (tmp_path / "folder" / "executed").exists()


def test_the_prefect_server_works_elsewhere_and_inherits_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile(tmp_path / "folder"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("PREFECT_HOME", "relative")
    monkeypatch.setenv("PREFECT_API_URL", "kept for after the test")
    started: list[Any] = []
    popen = subprocess.Popen

    class Noted:
        def __init__(self, command: list[str], **options: Any) -> None:
            code = (
                "import os, secrets, sys, types; sys.path.insert(0, '')\n"
                "import uvicorn; print(os.environ['PREFECT_HOME'], uvicorn.__file__)"
            )
            started.append((command, options))
            done = popen(
                [*command[: command.index("-c")], "-c", code], env=options["env"],
                cwd=options["cwd"], stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(done.communicate()[0])

        stdin = None

        def terminate(self) -> None: ...

    monkeypatch.setattr(prefect_server.subprocess, "Popen", Noted)
    server = prefect_server.PrefectServer(tmp_path / "home" / "logs" / "server.log")
    server.prepare()
    (command, options), said = started
    assert "-P" in command
    assert options["cwd"] == sys.prefix
    assert "canary" not in options["env"].values()
    assert said.startswith(str(tmp_path / "folder" / "relative"))
    assert not (tmp_path / "folder" / "executed").exists()


USE_PREFECT = """
import sys
from prefect_hone.flows.cli import app

def use():
    assert "prefect" not in sys.modules
    from prefect.logging.configuration import setup_logging
    from prefect.settings import get_current_settings
    said = get_current_settings()
    setup_logging()
    print(said.api.url, said.api.key, said.logging.level, said.profiles_path.name)

app.app = use
app.main()
"""


@pytest.mark.parametrize("name", ["prefect.toml", "pyproject.toml", ".env"])
def test_prefects_settings_in_it_are_not_read(tmp_path: Path, name: str) -> None:
    """They name functions to call, by a configuration of logging, and a server that gets the key."""
    (tmp_path / "logging.yml").write_text(
        "version: 1\nhandlers: {h: {class: logging.StreamHandler, formatter: f}}\n"
        "formatters: {f: {(): subprocess.check_call, args: [touch, executed]}}\n"
    )
    table = "tool.prefect." if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(
        "PREFECT_API_URL=http://hostile.example/api\nPREFECT_LOGGING_LEVEL=DEBUG\n"
        "PREFECT_LOGGING_CONFIG_PATH=logging.yml\nPREFECT_PROFILES_PATH=hostile.toml\n"
        if name == ".env"
        else f"[{table}api]\nurl = 'http://hostile.example/api'\n[{table}logging]\n"
        f"level = 'DEBUG'\nconfig_path = 'logging.yml'\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", USE_PREFECT], cwd=tmp_path, capture_output=True, text=True,
        env={**environment, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_KEY": "key"},
    )  # fmt: skip
    assert done.stdout == "None ********** INFO profiles.toml\n", done.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.nightly
def test_a_run_in_it_and_with_it_as_code_folder_runs_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hone: Any, project: Path
) -> None:
    folder = hostile(tmp_path / "folder")
    shutil.copytree(project, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    done = hone.run("run", "recipe.yaml", "--set", "train.epochs=1")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 3), f"{done.stdout}\n{done.stderr}"
    assert "not used from the code folder: json.py, mlflow.py" in done.stdout
    assert not (folder / "executed").exists()


def test_a_process_of_ours_that_is_spawned_inherits_the_safe_path() -> None:
    code = (
        "import multiprocessing as m, sys\n"
        "assert '-P' in m.util._args_from_interpreter_flags(), sys.flags\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import multiprocessing.util\n{code}"], check=False
    )
    assert done.returncode == 0
