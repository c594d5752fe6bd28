"""The commit of a recipe's folder: as git would say it, with nothing of the folder run."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from prefect_hone.flows.engine.source_commit import source_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "recipe.yaml").write_text("name: a\n")
    (folder / "inner").mkdir()
    (folder / "inner" / "model.py").write_text("x = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_commit_and_whether_there_are_changes(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert source_commit(repository) == commit
    assert source_commit(repository / "inner") == commit
    (repository / "new.txt").write_text("new")
    assert source_commit(repository) == f"{commit}-dirty"
    assert source_commit(repository / "inner") == commit, "the change is elsewhere"
    (repository / ".gitignore").write_text("*.txt\n.gitignore\n")
    assert source_commit(repository) == commit
    (repository / "inner" / "model.py").write_text("x = 2\n")
    assert source_commit(repository / "inner") == f"{commit}-dirty"


def test_packed_refs_worktrees_and_detached_heads(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    git(repository, "gc", "-q")
    git(repository, "pack-refs", "--all")
    assert source_commit(repository) == commit
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other")
    assert source_commit(tmp_path / "tree" / "inner") == commit
    git(repository, "checkout", "-q", "--detach")
    assert source_commit(repository) == commit


def test_outside_a_repository_there_is_none(tmp_path: Path) -> None:
    assert source_commit(tmp_path / "nowhere") is None


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path]:
    """A program, and the file that tells that it ran."""
    told = tmp_path / "told"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {told}\ncat\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program, told


_SETTINGS = {
    "fsmonitor": "[core]\n\tfsmonitor = {program}\n",
    "hooks": "[core]\n\thooksPath = {folder}\n\tfsmonitor = true\n",
    "filter": '[filter "evil"]\n\tclean = {program}\n\tsmudge = {program}\n\tprocess = {program}\n',
    "external diff": '[diff]\n\texternal = {program}\n[diff "evil"]\n\ttextconv = {program}\n'
    "\tcommand = {program}\n",
    "pager": "[core]\n\tpager = {program}\n[pager]\n\tstatus = {program}\n",
    "ssh": "[core]\n\tsshCommand = {program}\n[extensions]\n\tpartialClone = origin\n"
    '[remote "origin"]\n\turl = ssh://evil.example/x\n\tpromisor = true\n',
    "include": "[include]\n\tpath = {folder}/included\n",
    "alias": "[alias]\n\tstatus = !{program}\n",
    "credentials": "[credential]\n\thelper = !{program}\n",
}


@pytest.mark.parametrize("name", _SETTINGS)
def test_settings_of_the_repository_run_nothing(
    repository: Path, trap: tuple[Path, Path], name: str
) -> None:
    program, told = trap
    commit = git(repository, "rev-parse", "HEAD")
    (program.parent / "included").write_text(_SETTINGS["fsmonitor"].format(program=program))
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        shutil.copy(program, repository / ".git" / "hooks" / hook)
        shutil.copy(program, program.parent / hook)
    with (repository / ".git" / "config").open("a") as config:
        config.write(_SETTINGS[name].format(program=program, folder=program.parent))
    (repository / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (repository / "inner" / "model.py").write_text("x = 3\n")
    assert source_commit(repository) == f"{commit}-dirty"
    assert not told.exists()


def test_the_trap_works_where_git_obeys(repository: Path, trap: tuple[Path, Path]) -> None:
    program, told = trap
    git(repository, "config", "core.fsmonitor", str(program))
    git(repository, "status")
    assert told.exists()


@pytest.mark.parametrize("name", ["HEAD", "config", "index"])
def test_a_repository_of_pipes_and_links_is_none_or_changed(repository: Path, name: str) -> None:
    (repository / ".git" / name).unlink()
    os.mkfifo(repository / ".git" / name) if name != "config" else None
    if name == "index":
        (repository / ".git" / name).unlink()
        (repository / ".git" / name).symlink_to("/etc/passwd")
    said = source_commit(repository)
    assert said is None or len(said.removesuffix("-dirty")) == 40


def test_a_repository_that_names_another_place(tmp_path: Path) -> None:
    for said in ("gitdir: /etc", "gitdir: " + "../" * 50, "nonsense", "gitdir: a\0b", ""):
        (tmp_path / ".git").write_text(said)
        assert source_commit(tmp_path) is None
