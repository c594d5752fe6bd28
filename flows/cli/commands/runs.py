"""Commands of a run: run it, plan it, and look at what came of it.

Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..signals import ended_by_signals
from .common import (
    JsonOption,
    RecipeArgument,
    RedoOption,
    SetOption,
    console_for,
    end_with,
    exit_with_message,
    print_json,
)

commands = typer.Typer()


@commands.command()
@exit_with_message
def run(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    redo: RedoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: train, compress, compile, measure, promote.

    Exit codes: 0 a champion was promoted; 1 something failed; 2 the input is wrong; 3 no candidate
    passed its gates (the champion is unchanged); 130 interrupted; 143 or 129 ended by SIGTERM or
    SIGHUP. If nobody reads the output any more, the run goes on without it.
    """
    from ..run import run_command

    end_with(run_command(recipe, overrides or [], as_json, redo or []))


@commands.command()
@exit_with_message
def plan(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    redo: RedoOption = None,
    as_json: JsonOption = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Build model and data to estimate parameters and memory, if no run has yet.",
        ),
    ] = False,
) -> None:
    """Show what a run would do: which steps are cached and which would run. Runs nothing."""
    from ...engine.memory_plan import plan_memory
    from ...engine.plan import make_plan, needs
    from ...engine.records import refused
    from ...engine.shipped_code import shipped_code
    from ..load import load_for_command
    from ..tables import show_code, show_outside, show_plan

    with ended_by_signals():
        loaded, session = load_for_command(recipe, overrides or [], redo=redo or [])
        session.dry = not estimate  # which loads the model from the store
        made = make_plan(loaded, session)
        memory = plan_memory(loaded, made, session, estimate)
    code = None if session.code is None else shipped_code(session.code, session.recipe)
    if as_json:
        steps = [
            {"step": s.call.label, "cached": s.cached, "seconds": s.seconds,
             "needs": None if s.cached else needs(loaded, s.call)}
            for s in made.steps
        ]  # fmt: skip
        skipped = {c.name: c.unavailable.reason for c in made.candidates if c.unavailable}
        said = {**memory.model_dump(mode="json"), "fits": memory.fits} if memory else None
        print_json({"recipe": loaded.name, "digest": loaded.digest(), "steps": steps,
                     "skipped": skipped, "memory": said, "notes": [*session.notes, *made.told],
                     "code": code and code.to_json(),
                     "code_elsewhere": sorted(session.allowed.outside or ())})  # fmt: skip
    else:
        show_plan(console_for(), made, loaded, memory)
        if code is not None:
            show_code(console_for(), code)
        show_outside(console_for(), session.allowed.outside or ())
        for note in session.notes:
            console_for().print(note, highlight=False, markup=False)
    unsigned = refused(session.store)
    if unsigned is not None:
        console_for(stderr=True).print(f"! {unsigned}", highlight=False, markup=False)


@commands.command()
@exit_with_message
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="An MLflow run id, or the name of a recipe (its last run); two are compared. "
            "Default: the last run."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write.")] = None,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it in a browser, if there is a display.")
    ] = True,
) -> None:
    """Write the report of a run, or of two side by side, to an HTML file and open it."""
    from ..report import report_command

    report_command(console_for(), runs or [], out, show)


@commands.command()
@exit_with_message
def why(
    run: Annotated[
        str, typer.Argument(help="MLflow's id of a run, or a recipe's name for its newest run.")
    ],
    candidate: Annotated[
        str | None,
        typer.Argument(help="A candidate, as in int8@openvino-cpu. Default: all, in short."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Why a candidate of a run won or lost: its gates with their margins, and how it compares with
    the winner and with the champion.
    """
    from ..why import candidate_of, explained, outcome_of

    outcome = outcome_of(run)
    text = explained(outcome, candidate)
    if as_json:
        asked = [candidate_of(outcome, candidate)] if candidate else list(outcome.candidates)
        said = {"run": outcome.run_id, "winner": outcome.winner, "why": outcome.why, "text": text}
        print_json({**said, "candidates": [c.model_dump(mode="json") for c in asked]})
    else:
        console_for().print(text, highlight=False, markup=False, soft_wrap=True)
