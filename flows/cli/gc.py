"""`hone gc`: remove what no run, version or cache needs."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table

from ...recipe.errors import InputError
from ...recipe.measures import bytes_in_words
from ..engine.home import usable_settings
from ..engine.session import open_store
from ..operate.garbage import Garbage, find_garbage, remove


def gc_command(console: Console, days: float, yes: bool, dry_run: bool) -> None:
    """Say what would be removed and how much it is, ask, and remove it.

    Raises:
        HoneError: The store or MLflow can't be read.
    """
    settings = usable_settings()
    store = open_store(settings)
    garbage = find_garbage(store, settings.tracking, days)
    _show(console, garbage, days)
    if not garbage.leftovers or dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody can be asked here", where="hone gc", do="give --yes")
        if not typer.confirm("Remove all of it?"):
            return
    remove(store, garbage)
    said = f"removed {bytes_in_words(garbage.size)} from {store.shown}"
    console.print(said, highlight=False, markup=False)


def _show(console: Console, garbage: Garbage, days: float) -> None:
    table = Table(header_style="bold", pad_edge=False)
    for header in ("what", "how many", "size"):
        table.add_column(header, justify="left" if header == "what" else "right")
    for kind, what in (
        ("result", f"results that nobody used for {days:g} days"),
        ("artifact", "artifacts that nothing refers to"),
        ("checkpoint", f"checkpoints of trainings that nobody resumed for {days:g} days"),
    ):
        chosen = [item for item in garbage.leftovers if item.kind == kind]
        size = bytes_in_words(sum(item.size for item in chosen))
        table.add_row(what, str(len(chosen)), size)
    console.print(table)
    console.print(f"{garbage.kept} artifacts stay", highlight=False)
