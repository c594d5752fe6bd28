"""The package itself: what it imports, what it ships, how Prefect finds it."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import long_tests
import pytest
from imports import HEAVY, imported_in

ROOT = Path(__file__).parent.parent


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, prefect_hone\nfrom prefect_hone import Recipe, load_recipe, Data\n"
        "load_recipe('digits')\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'prefect', 'numpy') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_planning_imports_nothing_heavy(hone) -> None:
    """From the command's first line to its last."""
    done = hone.run("plan", "digits", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    found = imported_in(done.stderr)
    assert "pydantic" in found
    assert not found & {*HEAVY, "ray", "mlflow", "prefect"}


def test_a_run_that_computes_nothing_imports_nothing_of_the_steps() -> None:
    """They are imported where they work; torch alone takes a fifth of such a run."""
    code = (
        "import sys\nfrom prefect_hone.flows.accelerate import accelerate\n"
        "from prefect_hone.flows.cli import run\n"
        f"heavy = {HEAVY}\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_every_public_name_is_there() -> None:
    import prefect_hone

    for name in prefect_hone.__all__:
        assert getattr(prefect_hone, name) is not None
    assert set(prefect_hone.__all__) <= set(dir(prefect_hone))


def test_every_package_is_shipped() -> None:
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {"prefect_hone"}
    for room in ("recipe", "runtimes", "ray_workers", "tasks", "flows", "testing"):
        for path in (ROOT / room).rglob("__init__.py"):
            found.add("prefect_hone." + ".".join(path.parent.relative_to(ROOT).parts))
    assert listed == found


def test_prefect_finds_it_as_a_collection() -> None:
    points = importlib.metadata.entry_points(group="prefect.collections")
    assert [p.value for p in points if p.name == "prefect_hone"] == ["prefect_hone"]


def test_prefect_finds_its_blocks() -> None:
    import prefect_hone
    from prefect.blocks.core import Block

    found = [
        name
        for name, member in inspect.getmembers(prefect_hone)
        if inspect.isclass(member) and issubclass(member, Block)
    ]
    assert found == ["HoneServers"]


def test_constraints_are_exact_and_cover_the_dependencies() -> None:
    lines = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    assert all("==" in line for line in lines)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    from packaging.requirements import Requirement

    for declared in importlib.metadata.requires("prefect-hone") or []:
        name = Requirement(declared).name.lower().replace("_", "-")
        if name != "prefect-hone":
            assert name in pinned, name


def test_help_is_quick_and_complete() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hone"), "--help"], capture_output=True, text=True,
        check=True, env={"COLUMNS": "100", "PATH": ""},
    )  # fmt: skip
    for command in ("run", "plan", "targets", "doctor", "init"):
        assert command in done.stdout


def test_init_writes_a_recipe_that_plans(hone, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert hone.run("init", str(folder)).returncode == 0
    assert "code: ." in (folder / "recipe.yaml").read_text()
    plan = hone.json("plan", str(folder / "recipe.yaml"))
    assert plan["steps"]
    again = hone.run("init", str(folder))
    assert again.returncode == 2
    assert "not an empty folder" in again.stderr


def test_targets_and_doctor_answer(hone) -> None:
    rows = hone.json("targets")["targets"]
    assert {"onnxruntime-cpu", "openvino-cpu"} <= {row["target"] for row in rows}
    findings = hone.json("doctor")["findings"]
    assert {"packages", "machine", "MLflow", "Prefect", "Ray"} <= {f["subject"] for f in findings}
    table = hone.run("doctor").stdout
    assert "embedded store" in table
    away = hone.run("doctor", "--json", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.returncode == 1


def test_no_process_of_ours_imports_from_the_current_folder() -> None:
    """`python -m` and `python -c` put the folder that one is in first on the path: a stranger's
    numpy.py in it would be imported instead of numpy.
    """
    started = 0
    for room in ("recipe", "runtimes", "ray_workers", "tasks", "flows"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            for found in re.finditer(r'"-m",|sys\.executable, [^\]\n]*"-c",', text):
                started += 1
                line = text.rfind("[", 0, found.start())
                assert re.search(r'"-[PI]",', text[line : found.end()]), path
    assert started == 9


def test_the_list_of_long_tests_names_tests_that_exist() -> None:
    for name in map(long_tests.function, long_tests.listed()):
        path, first, *_ = name.split("::")  # a test, or a class of tests, with those of its base
        held = (ROOT / path).read_text()
        assert re.search(rf"^(def {first}\(|class {first}\b|{first} = )", held, re.MULTILINE), name


def test_no_tool_left_a_file_in_the_repository() -> None:
    """ONNX Runtime's shape inference leaves graphs in the current folder; some were committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", ":(glob)*"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("this is no clone")
    kinds = {".md", ".py", ".toml", ".txt", ".yml"}
    known = {".gitignore", "LICENSE", "Makefile", "py.typed"}
    there = [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    assert [n for n in there if n not in known and Path(n).suffix not in kinds] == []
