"""The documentation: links and anchors lead somewhere, names are real, the reference is current."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ALL = [
    *PAGES,
    *(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "infra/README.md")),
]
ROOMS = ("recipe", "runtimes", "ray_workers", "tasks", "flows")
#: Of Hone's own processes only.
INTERNAL = {"HONE_STACK_MARK"}

_LINK = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path, script: ModuleType) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "") for title in titles]
    return {script.slug(title) for title in plain}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_lead_somewhere(page: Path, script: ModuleType) -> None:
    wrong = []
    for link in _LINK.findall(prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = page not in PAGES or target.is_relative_to(DOCS)  # a site has nothing else
        there = target.exists() and inside
        if not there or (anchor and anchor not in anchors(target, script)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", ALL, ids=name)
def test_no_page_has_a_title_twice(page: Path, script: ModuleType) -> None:
    titles: list[str] = re.findall(r"^#{1,2} (.+)$", prose(page), re.MULTILINE)
    assert len(titles) == len(set(titles))


def test_every_page_is_in_the_navigation() -> None:
    def pages(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [
            p for inner in (part.values() if isinstance(part, dict) else part) for p in pages(inner)
        ]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_reference_is_current(script: ModuleType) -> None:
    stale = script.REFERENCE.read_text(encoding="utf-8") != script.reference()
    assert not stale, "docs/reference.md is stale: python docs/write_reference.py"


def test_every_flow_is_in_the_reference(script: ModuleType) -> None:
    text = (ROOT / "flows/operate/deployments.py").read_text(encoding="utf-8")
    listed = re.search(r"^FLOWS = \(([^)]*)\)", text, re.MULTILINE)
    assert listed is not None
    assert tuple(re.findall(r'"(\w+)"', listed[1])) == script.FLOWS


def test_every_variable_is_in_the_reference(script: ModuleType) -> None:
    read = set()
    for path in [
        *(p for room in ROOMS for p in (ROOT / room).rglob("*.py")),
        ROOT / ".ci/set_up.py",
    ]:
        read |= set(re.findall(r"[\"'](HONE_[A-Z_]+)[\"']", path.read_text(encoding="utf-8")))
    documented = {n for group in script.VARIABLES.values() for n in group if n.startswith("HONE_")}
    assert read - INTERNAL == documented, "correct VARIABLES in docs/write_reference.py"


def test_the_security_page_has_every_variable_that_grants_something(script: ModuleType) -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    assert [n for n in script.VARIABLES["Permissions and keys"] if n not in text] == []


def test_the_readme_has_every_command() -> None:
    import typer.main
    from prefect_hone.flows.cli.app import app

    command: Any = typer.main.get_command(app)
    named = set(command.commands)
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Commands\n")[2]
    listed = re.findall(r"^\| `hone ([a-z]+)", text.partition("\n## ")[0], re.MULTILINE)
    assert sorted(listed) == sorted(named)


def test_commands_in_the_pages_exist() -> None:
    import typer.main
    from prefect_hone.flows.cli.app import app

    command: Any = typer.main.get_command(app)
    wrong = []
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        for found in re.findall(
            r"(?:^|`|; |&& |\$\()hone ([a-z]+)((?: [^`\n|;&)]*)?)", text, re.MULTILINE
        ):
            inner = command.commands.get(found[0])
            if inner is None:
                wrong.append((name(page), f"hone {found[0]}"))
                continue
            parts = [inner, *getattr(inner, "commands", {}).values()]
            known = {o for part in parts for p in part.params for o in (*p.opts, *p.secondary_opts)}
            used = set(re.findall(r"(?<= )--[a-z-]+", found[1].split("  #")[0]))
            wrong += [(name(page), f"hone {found[0]} {option}") for option in used - known]
    assert not wrong


@pytest.mark.parametrize("page", [p for p in ALL if p.name != "CHANGELOG.md"], ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    folders = (*ROOMS, "testing", "tests", "docs", "examples", "infra", ".ci")
    ours = {p.relative_to(ROOT).as_posix() for d in folders
            for p in (ROOT / d).rglob("*.*")} | {p.name for p in ROOT.iterdir()}  # fmt: skip
    named = re.findall(r"`([a-z_0-9./-]+\.(?:py|ya?ml|toml))`", prose(page))  # NAME.py is any
    theirs = {
        "mymodels.py",
        "mydata.py",
        "numpy.py",
        "secrets.py",
        "prefect.toml",
        "digits_model.py",
    }
    wrong = []
    for path in named:
        known = any(o == path or o.endswith(f"/{path}") for o in (*ours, *theirs))
        if not known and not path.startswith("mine/"):
            wrong.append(path)
    assert wrong == ["prefect_hone/__init__.py"] * len(wrong)  # of the wheel
