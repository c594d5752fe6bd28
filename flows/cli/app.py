"""The command line: `hone`."""

from __future__ import annotations

import gc
from typing import Annotated, NoReturn

import typer

from ..prefect_private import ignore_the_current_folder
from .commands import deployments, machine, registry, runs, stack
from .commands.common import exit_code_of
from .output import OutputLost, flush_output, guard_output, leave
from .proxies import reach_this_machine_directly
from .user_home import use_hone_home

app = typer.Typer(
    name="hone",
    help="Train a model on Ray, compress and compile it, prove which result is the fastest that is "
    "still good enough, and promote it in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (runs, registry, deployments, machine):
    app.add_typer(group.commands)
app.add_typer(stack.commands, name="stack")


def _version(value: bool) -> None:
    if value:
        from ..._version import __version__

        typer.echo(f"hone {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    return None


def main() -> NoReturn:
    """Entry point."""
    # Importing Prefect and MLflow makes millions of objects that stay. With Python's threshold of
    # 700 new ones, looking for garbage among them takes a tenth of a short run.
    gc.set_threshold(100_000, 50, 100)
    guard_output()
    ignore_the_current_folder()
    reach_this_machine_directly()
    use_hone_home()
    code: int | str | None = 0
    try:
        app()
    except SystemExit as exit_:
        code = exit_.code
    except OutputLost as error:
        code = exit_code_of(error)
    try:
        flush_output()
    except OutputLost as error:
        code = code or exit_code_of(error)
    leave(code)


if __name__ == "__main__":
    main()
