"""What commands share: options, their console, and how a mistake ends them."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer

from ....recipe.errors import HoneError
from ....recipe.library_messages import telling
from ....recipe.machine_errors import machine_error
from ....recipe.service_errors import service_error
from ...logs import say
from ..output import EXIT_NO_READER, OutputLost, only_json, write_json
from ..signals import Ended

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file (YAML or TOML), or a bundled example: digits.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field, as in train.epochs=3. Can be repeated."),
]
RedoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redo",
        help="Compute a step again, with all that follows: train, or compile:int8@openvino-cpu. "
        "Can be repeated.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout, and all else to stderr.")
]

P = ParamSpec("P")


def exit_with_message(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a user's mistake into a sentence and an exit code instead of a traceback."""

    @functools.wraps(command)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            with only_json(bool(options.get("as_json"))):
                command(*arguments, **options)
        except HoneError as error:
            say(str(error))
            raise typer.Exit(error.exit_code) from None
        except OutputLost as error:
            raise typer.Exit(exit_code_of(error)) from None
        except Ended as error:
            say(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            trouble = machine_error(error) or service_error(error)
            if trouble is None:
                raise
            say(str(trouble))
            raise typer.Exit(trouble.exit_code) from None

    return wrapped


def console_for(stderr: bool = False) -> Any:
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 240
    return Console(stderr=stderr, width=None if os.environ.get("COLUMNS") else width)


def print_json(value: dict[str, Any]) -> None:
    write_json(json.dumps(value, indent=1))


def end_with(code: int) -> None:
    if code:
        raise typer.Exit(code)


def exit_code_of(error: OutputLost) -> int:
    """The exit code of a command whose output can't be written: quiet if nobody reads it."""
    if error.reader_is_gone:
        return EXIT_NO_READER
    sys.stderr.write(f"hone: the output can't be written: {telling(error)}\n")
    return 1
