"""A full disk and the like are one sentence, whichever library noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from prefect_hone.flows.cli.commands.common import exit_with_message
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.machine_errors import folder_error, machine_error

FULL = "no space or no inodes are left"


class Wrapped(Exception):
    """As MLflow and SQLAlchemy wrap an error: its text in theirs."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), f"/x: {FULL}"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/home/other"), "/home/other: a file"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit"),
        (Wrapped("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT]"), FULL),
        (Wrapped("(sqlite3.OperationalError) attempt to write a readonly database"), "read-only"),
        (Wrapped("(sqlite3.OperationalError) unable to open database file"), "inodes left"),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), "[socks]"),
        (ValueError("Missing dependencies for SOCKS support."), "[socks]"),
    ],
)
def test_it_is_a_sentence(error: Exception, said: str) -> None:
    found = machine_error(error)
    assert found is not None
    assert said in str(found)
    assert "SQL" not in str(found)
    assert len(str(found).splitlines()) == 2


def test_it_is_found_behind_other_errors() -> None:
    error = Wrapped("INSERT failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert FULL in str(machine_error(error))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("full"), FileNotFoundError(2, "no")])
def test_other_errors_are_none_of_it(error: Exception) -> None:
    assert machine_error(error) is None


def test_what_was_said_already_is_not_said_otherwise() -> None:
    error = InputError("the weights can't be read")
    error.__cause__ = OSError(errno.EACCES, "Permission denied")
    assert machine_error(error) is None


def test_commands_end_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    @exit_with_message
    def command() -> None:
        raise Wrapped("database or disk is full")

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err.startswith(f"hone: {FULL}")


def test_a_bug_is_not_hidden() -> None:
    @exit_with_message
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


def test_a_folder_that_can_be_written(tmp_path: Path) -> None:
    assert folder_error(tmp_path) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"f_bavail": 3}, FULL),
        ({"f_favail": 0}, FULL),
        ({"f_flag": os.ST_RDONLY}, "read-only"),
    ],
)
def test_a_folder_that_another_process_can_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, int], said: str
) -> None:
    good = {"f_bavail": 2**20, "f_frsize": 4096, "f_files": 9, "f_favail": 9, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**good, **changed}))
    found = folder_error(tmp_path)
    assert found is not None
    assert str(found).startswith(f"{tmp_path}: ")
    assert said in str(found)


def test_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "permission denied" in str(folder_error(tmp_path))
