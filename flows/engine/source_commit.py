"""The git commit of a recipe's folder, found without obeying anything that lies in the folder.

A repository's own settings are commands: `core.fsmonitor`, filters, hooks, `core.sshCommand`,
`diff.external` and `include.path` run programs, some of them on `git status`. The folder is
somebody's download as often as not. So git gets a repository directory of ours, with no settings
but the format, and reads only objects and the index of theirs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ...ray_workers.scratch import scratch_folder
from ...recipe.errors import InputError
from ...recipe.regular_files import open_regular

_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_REF = re.compile(r"refs/[\w./@{}+-]+")
_LARGEST = 4 * 2**20  # of a file with names of commits (bytes)
_SECONDS = 5.0
_WHERE = "the git repository"


def source_commit(folder: Path) -> str | None:
    """The git commit of a folder, with `-dirty` if it has changes; None outside a repository."""
    try:
        found = _repository(folder.resolve())
        if found is None:
            return None
        top, own, shared = found
        commit = _head(own, shared)
        if commit is None:
            return None
        return f"{commit}-dirty" if _has_changes(folder, top, own, shared, commit) else commit
    except (OSError, InputError, UnicodeDecodeError, ValueError):
        return None


def _repository(folder: Path) -> tuple[Path, Path, Path] | None:
    """The top folder, the folder of its checkout's state, and that of its objects."""
    for top in (folder, *folder.parents):
        place = top / ".git"
        if place.is_dir() and not place.is_symlink():
            return top, place, place
        if place.is_file():  # of a worktree or a submodule
            said = _text(place)
            own = (top / said.removeprefix("gitdir:").strip()).resolve()
            if not said.startswith("gitdir:") or not own.is_dir():
                return None
            common = own / "commondir"
            return top, own, (own / _text(common).strip()).resolve() if common.exists() else own
    return None


def _head(own: Path, shared: Path) -> str | None:
    """The commit that is checked out."""
    said = _text(own / "HEAD").strip()
    for _ in range(5):
        if _COMMIT.fullmatch(said):
            return said
        ref = said.removeprefix("ref:").strip()
        if not _REF.fullmatch(ref) or ".." in ref:
            return None
        place = next((p for p in (own / ref, shared / ref) if p.is_file()), None)
        said = _text(place).strip() if place is not None else _packed(shared, ref)
    return None


def _packed(shared: Path, ref: str) -> str:
    if not (shared / "packed-refs").exists():
        return ""
    for line in _text(shared / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""


def _text(path: Path) -> str:
    with open_regular(path, _WHERE) as stream:
        return stream.read(_LARGEST).decode()


def _has_changes(folder: Path, top: Path, own: Path, shared: Path, commit: str) -> bool:
    """Whether files of a folder differ from its commit; true also if git can't say."""
    program = shutil.which("git")
    if program is None:
        return True
    with scratch_folder("git") as place:
        ours = str(place)
        for name in ("objects", "refs", "info"):
            (place / name).mkdir()
        wide = len(commit) == 64
        (place / "config").write_text(
            "[core]\n\trepositoryformatversion = 1\n\tbare = false\n"
            + ("[extensions]\n\tobjectFormat = sha256\n" if wide else "")
        )
        (place / "HEAD").write_text(f"{commit}\n")
        excluded = shared / "info" / "exclude"  # patterns, and nothing else
        if excluded.is_file() and not excluded.is_symlink():
            (place / "info" / "exclude").write_text(_text(excluded), encoding="utf-8")
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", ours),
            "LC_ALL": "C",
            "GIT_DIR": ours,
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_OBJECT_DIRECTORY": str(shared / "objects"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
        }
        command = [program, "--no-pager", "-c", "core.fsmonitor=false", "-c",
                   f"core.hooksPath={os.devnull}", "status", "--porcelain",
                   "--ignore-submodules=all", "--", "."]  # fmt: skip
        try:
            answer = subprocess.run(  # noqa: S603 (a list of our own, no shell)
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return True
        return bool(answer.stdout)
