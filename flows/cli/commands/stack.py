"""Commands of the local stack of servers: `hone stack`.

Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .common import JsonOption, console_for, end_with, exit_with_message, print_json

commands = typer.Typer(
    help="A team's servers on this machine: PostgreSQL, Redis, Prefect, MLflow, Ray, a worker.",
    no_args_is_help=True,
)


@commands.command("up")
@exit_with_message
def stack_up(
    seconds: Annotated[
        float, typer.Option("--timeout", help="How long the servers may take to answer (s).")
    ] = 180.0,
    set_up: Annotated[
        bool,
        typer.Option(
            "--setup/--no-setup", help="Create what Hone needs on the Prefect server (hone setup)."
        ),
    ] = True,
) -> None:
    """Start what of the stack does not run yet, and return when all servers answer.

    They run on until `hone stack down`.
    """
    from ..stack import start_stack

    start_stack(seconds, set_up)


@commands.command("down")
@exit_with_message
def stack_down(
    delete: Annotated[
        bool, typer.Option("--delete-data", help="Delete databases, artifacts and passwords, too.")
    ] = False,
) -> None:
    """Stop the servers of the stack. What they keep stays, unless asked otherwise."""
    from ...operate.stack.stack import down, stack_folder
    from ..stack import say

    down(stack_folder(), say, delete)


@commands.command("status")
@exit_with_message
def stack_status(as_json: JsonOption = False) -> None:
    """Show how each server is. Exit code 1 if one does not answer."""
    from ...operate.stack.stack import stack_folder, status
    from ..stack import show_status

    found = status(stack_folder())
    if as_json:
        print_json({"services": [asdict(state) for state in found]})
    else:
        show_status(console_for(), found)
    end_with(0 if found and all(state.state == "answers" for state in found) else 1)


@commands.command("env")
@exit_with_message
def stack_env() -> None:
    """Print lines for a shell that make its commands use the stack. They contain its passwords."""
    from ..stack import print_exports

    print_exports()
