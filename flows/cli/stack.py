"""`hone stack`: a team's servers on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from os import environ
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...recipe.errors import HoneError, InputError
from ..operate.stack.folder import StackFolder
from ..operate.stack.services import POOL, client_environment
from ..operate.stack.stack import ServiceState, exports, stack_folder, up
from .output import Output


def start_stack(seconds: float, set_up: bool) -> None:
    """Start the servers, and create what Hone needs on Prefect's.

    Raises:
        HoneError: Something is not installed, or did not start.
    """
    folder = stack_folder()
    took = up(folder, say, seconds)
    if set_up:
        _set_up(folder)
    say(f"\nall answer after {took:.0f} s; logs are in {folder.logs}")
    say('To use it:  eval "$(hone stack env)"')
    say(f"Passwords of the web pages (users hone and admin): {folder.root / 'secrets.json'}")


def _set_up(folder: StackFolder) -> None:
    """`hone setup` in a process of its own: Prefect reads its settings once a process."""
    own: Mapping[str, str] = environ
    code = "from prefect_hone.flows.cli.app import main; main()"
    done = subprocess.run(  # noqa: S603 (a list of our own, no shell)
        [sys.executable, "-P", "-c", code, "setup", "--pool", POOL, "--block", "stack"],
        env={**own, **client_environment(folder)},
        check=False,
    )
    if done.returncode:
        raise HoneError(
            "the servers run, and `hone setup` failed",
            where="the local stack",
            do="see its message above; then `hone stack up` again",
        )


def print_exports() -> None:
    """Print what a shell needs; it has passwords in it.

    Raises:
        InputError: There is no stack.
    """
    folder = stack_folder()
    if not folder.exists:
        raise InputError("there is no stack", where="hone stack env", do="hone stack up")
    text, output = exports(folder), sys.stdout
    if isinstance(output, Output):
        output.write_as_it_is(text)
    else:
        output.write(text)


def show_status(console: Console, found: list[ServiceState]) -> None:
    """How each server is, as a table."""
    if not found:
        say("there is no stack: hone stack up")
        return
    console.print(_table(found), soft_wrap=True)


def _table(found: list[ServiceState]) -> Any:
    table = Table(box=None, pad_edge=False)
    for title in ("service", "state", "address", "pid", "log"):
        table.add_column(title, overflow="fold")
    colours = {"answers": "green", "starting": "yellow", "stopped": "red"}
    for state in found:
        colour = colours[state.state]
        table.add_row(
            state.name, f"[{colour}]{state.state}[/]", escape(state.address),
            "" if state.pid is None else str(state.pid), escape(state.log),
        )  # fmt: skip
    return table


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
