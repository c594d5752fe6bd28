"""Commands of the model registry: approve, promote, roll back, copy, look.

Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .common import JsonOption, console_for, end_with, exit_with_message, print_json

ModelArgument = Annotated[str, typer.Argument(help="Name of the registered model.")]


ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")]


WhoOption = Annotated[
    str | None, typer.Option("--who", help="Who decides. Default: your account and host.")
]


AliasOption = Annotated[str, typer.Option("--alias", help="The alias to move.")]


commands = typer.Typer()


@commands.command()
@exit_with_message
def approve(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="Number of the version that waits.")],
    reason: ReasonOption,
    who: WhoOption = None,
    rejected: Annotated[
        bool, typer.Option("--reject", help="Turn it down instead: it can't be approved later.")
    ] = False,
) -> None:
    """Approve a version that waits for it (promotion: approve), and make it the champion.

    It is refused if the champion or the version has changed since, or the time is over.
    """
    from ..registry import approve_command, reject_command

    command = reject_command if rejected else approve_command
    command(console_for(), model, version, reason, who)


@commands.command()
@exit_with_message
def promote(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="Number of the version.")],
    reason: ReasonOption,
    who: WhoOption = None,
    alias: AliasOption = "champion",
) -> None:
    """Make a registered version the champion, if it was measured and passed every gate."""
    from ..registry import promote_command

    promote_command(console_for(), model, version, reason, who, alias)


@commands.command()
@exit_with_message
def rollback(
    model: ModelArgument,
    version: Annotated[
        str | None, typer.Argument(help="Number of a version. Default: the champion before.")
    ] = None,
    reason: ReasonOption = "",
    who: WhoOption = None,
    alias: AliasOption = "champion",
) -> None:
    """Go back to an earlier champion at once, after verifying its files."""
    from ..registry import rollback_command

    rollback_command(console_for(), model, version, reason, who, alias)


@commands.command()
@exit_with_message
def copy(
    model: Annotated[str, typer.Argument(help="NAME/VERSION or NAME@ALIAS of a registered model.")],
    to: Annotated[str, typer.Option("--to", help="The MLflow server that gets it.")],
    name: Annotated[
        str | None, typer.Option("--as", help="Name of the model there. Default: the same.")
    ] = None,
    who: WhoOption = None,
) -> None:
    """Copy a version with its evidence to another registry, verified on both sides.

    No alias moves there: `hone promote` with MLFLOW_TRACKING_URI set to that server does it.
    """
    from ..registry import copy_command

    copy_command(console_for(), model, to, name, who)


@commands.command()
@exit_with_message
def history(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Which version was the champion when, who changed it, and why: from the ledger."""
    from ..registry import history_rows, show_history

    if as_json:
        print_json({"model": model, "changes": history_rows(model)})
    else:
        show_history(console_for(), model)


@commands.command()
@exit_with_message
def verify(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/VERSION of a registered model.")],
    as_json: JsonOption = False,
) -> None:
    """Compare the files of a registered version with what was measured, its outputs on this machine
    with the measured ones, and recompute what its statement of provenance says.

    Exit codes: 0 they are the same; 1 they are not. A library, a processor or a system that differs
    here is told, and is no error.
    """
    from ..registry import provenance_of, show_provenance, verdict_of

    verdict = verdict_of(model)
    provenance = provenance_of(verdict)
    passes = verdict.passes and provenance.holds
    if as_json:
        said = {"provenance": provenance.model_dump(mode="json"), "holds": passes}
        print_json({**verdict.model_dump(mode="json"), **said})
    else:
        console_for().print(verdict.sentence, highlight=False, markup=False, soft_wrap=True)
        show_provenance(console_for(), provenance)
    end_with(0 if passes else 1)
