"""A folder full of modules with the names of Python's and of libraries: nothing in it is run, and it
breaks nothing. By accident, too: a `secrets.py` with passwords lies beside many a script.
"""

from __future__ import annotations

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
                [*command[: command.index("-m")], "-c", code], env=options["env"],
                cwd=options["cwd"], stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(done.communicate()[0])

        def terminate(self) -> None: ...

    monkeypatch.setattr(prefect_server.subprocess, "Popen", Noted)
    server = prefect_server.PrefectServer(tmp_path / "home" / "logs" / "server.log")
    server.prepare()
    (command, options), said = started
    assert "-P" in command
    assert options["cwd"] == tmp_path / "home" / "logs"
    assert "canary" not in options["env"].values()
    assert said.startswith(str(tmp_path / "folder" / "relative"))
    assert not (tmp_path / "folder" / "executed").exists()


@pytest.mark.slow
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
