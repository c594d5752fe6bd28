"""`hone report`: the report of a run, or of two, from MLflow to a file that a browser opens."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

from rich.console import Console

from ...recipe.errors import InputError
from ...tasks.report.comparison import comparison
from ...tasks.report.contents import Report
from ...tasks.tracking.run_files import read_run_file
from ..engine.home import usable_settings
from ..engine.reporting import CONTENTS, PAGE


def report_command(console: Console, runs: list[str], out: Path | None, show: bool) -> None:
    """Fetch the report of one run, or compare two.

    Args:
        console: Where the file's place is printed.
        runs: MLflow run ids or names of recipes, whose last run is meant; none: the last run.
        out: The file to write; None: one in `HONE_HOME/reports`.
        show: Open it in a browser.

    Raises:
        InputError: There is no such run, or it has no report, or the file can't be written.
        ServerUnreachable: MLflow does not answer.
    """
    if len(runs) > 2:
        raise InputError(f"{len(runs)} runs were given", do="give one run, or two to compare them")
    settings = usable_settings()
    file = PAGE if len(runs) < 2 else CONTENTS
    found = dict(read_run_file(settings.tracking, run, file, "report") for run in runs or [""])
    if len(runs) == 2 and len(found) == 1:
        raise InputError("both are the same run", do="give two runs to compare")
    if len(found) == 1:
        (text,) = found.values()
    else:
        text = comparison(*(_contents(run, said) for run, said in found.items()))
    path = out or settings.home / "reports" / f"{'-'.join(run[:12] for run in found)}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't be written: {error.strerror}", where=str(path)) from error
    console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    if show and _has_display():
        webbrowser.open(path.resolve().as_uri())


def _contents(run: str, text: str) -> Report:
    """What the report of a run shows.

    Raises:
        InputError: It was made by another version of Hone.
    """
    try:
        return Report.model_validate_json(text)
    except ValueError as error:
        raise InputError(
            f"the report of the run {run} was made by another version of Hone",
            do="run its recipe again: nothing is computed twice",
        ) from error


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
