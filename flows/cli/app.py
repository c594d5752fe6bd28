"""The command line: `hone`. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...recipe.machine_errors import machine_error
from ...recipe.service_errors import service_error
from ..logs import say
from ..prefect_private import ignore_the_current_folder
from .output import (
    EXIT_NO_READER,
    OutputLost,
    flush_output,
    guard_output,
    leave,
    only_json,
    write_json,
)
from .signals import Ended, ended_by_signals

app = typer.Typer(
    name="hone",
    help="Train a model on Ray, compress and compile it, prove which result is the fastest that is "
    "still good enough, and promote it in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
            raise typer.Exit(_lost(error)) from None
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


@app.command()
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
    from .run import run_command

    _exit(run_command(recipe, overrides or [], as_json, redo or []))


@app.command()
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
    from ..engine.memory_plan import plan_memory
    from ..engine.plan import make_plan, needs
    from ..engine.records import refused
    from ..engine.shipped_code import shipped_code
    from .load import load_for_command
    from .tables import show_code, show_outside, show_plan

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
        _print_json({"recipe": loaded.name, "digest": loaded.digest(), "steps": steps,
                     "skipped": skipped, "memory": said, "notes": [*session.notes, *made.told],
                     "code": code and code.to_json(),
                     "code_elsewhere": sorted(session.allowed.outside or ())})  # fmt: skip
    else:
        show_plan(_console(), made, loaded, memory)
        if code is not None:
            show_code(_console(), code)
        show_outside(_console(), session.allowed.outside or ())
        for note in session.notes:
            _console().print(note, highlight=False, markup=False)
    unsigned = refused(session.store)
    if unsigned is not None:
        _console(stderr=True).print(f"! {unsigned}", highlight=False, markup=False)


CronOption = Annotated[
    str | None, typer.Option("--cron", help="Run at these times: '0 2 * * *' is every night at 2.")
]
IntervalOption = Annotated[
    float | None, typer.Option("--interval", help="Run every so many seconds.")
]
RruleOption = Annotated[
    str | None, typer.Option("--rrule", help="Run by a recurrence rule of RFC 5545.")
]
TimezoneOption = Annotated[
    str | None, typer.Option("--timezone", help="Of the schedule: Europe/Berlin. Default UTC.")
]
PromotionOption = Annotated[
    str | None, typer.Option("--promotion", help="off, dry-run, approve or auto, for every run.")
]


@app.command()
@exit_with_message
def deploy(
    recipe: RecipeArgument,
    pool: Annotated[str, typer.Option("--pool", help="The work pool whose workers run it.")],
    overrides: SetOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the deployment. Default: the recipe's name.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Work queue of the pool.")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Image for pools that start containers.")
    ] = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RruleOption = None,
    timezone: TimezoneOption = None,
    promotion: PromotionOption = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag of the deployment. Can be repeated.")
    ] = None,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, help="Runs of it at once; more wait.")
    ] = 1,
    on_worker: Annotated[
        bool,
        typer.Option(
            "--on-worker",
            help="RECIPE is a path where the worker runs (an image, a cloned repository); nothing "
            "is put into the store.",
        ),
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Create its schedule paused.")] = False,
) -> None:
    """Create or update a deployment of a recipe on the Prefect server.

    The recipe, its code and its model's files go into the store, from which any worker takes them.
    """
    from .deploy import DeployOptions, deploy_command

    when = {"cron": cron, "interval": interval, "rrule": rrule, "timezone": timezone}
    deploy_command(
        _console(),
        DeployOptions(
            recipe=recipe, overrides=overrides or [], name=name, pool=pool, queue=queue,
            image=image, when=when, promotion=promotion, tags=tags or [], at_once=at_once,
            on_worker=on_worker, paused=paused,
        ),
    )  # fmt: skip


@app.command()
@exit_with_message
def serve(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(help="Recipes to serve too, each on the schedule of the options."),
    ] = None,
    overrides: SetOption = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RruleOption = None,
    timezone: TimezoneOption = None,
    promotion: PromotionOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Flow runs at once.")] = 1,
) -> None:
    """Serve all flows, and recipes on a schedule, from this process until it is ended.

    It needs a Prefect server (PREFECT_API_URL) and no work pool.
    """
    from .deploy import serve_command

    when = {"cron": cron, "interval": interval, "rrule": rrule, "timezone": timezone}
    serve_command(_console(), recipes or [], overrides or [], when, promotion, limit)


ModelArgument = Annotated[str, typer.Argument(help="Name of the registered model.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")]
WhoOption = Annotated[
    str | None, typer.Option("--who", help="Who decides. Default: your account and host.")
]
AliasOption = Annotated[str, typer.Option("--alias", help="The alias to move.")]


@app.command()
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
    from .registry import approve_command, reject_command

    command = reject_command if rejected else approve_command
    command(_console(), model, version, reason, who)


@app.command()
@exit_with_message
def promote(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="Number of the version.")],
    reason: ReasonOption,
    who: WhoOption = None,
    alias: AliasOption = "champion",
) -> None:
    """Make a registered version the champion, if it was measured and passed every gate."""
    from .registry import promote_command

    promote_command(_console(), model, version, reason, who, alias)


@app.command()
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
    from .registry import rollback_command

    rollback_command(_console(), model, version, reason, who, alias)


@app.command()
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
    from .registry import copy_command

    copy_command(_console(), model, to, name, who)


@app.command()
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
    from .why import candidate_of, explained, outcome_of

    outcome = outcome_of(run)
    text = explained(outcome, candidate)
    if as_json:
        asked = [candidate_of(outcome, candidate)] if candidate else list(outcome.candidates)
        said = {"run": outcome.run_id, "winner": outcome.winner, "why": outcome.why, "text": text}
        _print_json({**said, "candidates": [c.model_dump(mode="json") for c in asked]})
    else:
        _console().print(text, highlight=False, markup=False, soft_wrap=True)


@app.command()
@exit_with_message
def history(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Which version was the champion when, who changed it, and why: from the ledger."""
    from .registry import history_rows, show_history

    if as_json:
        _print_json({"model": model, "changes": history_rows(model)})
    else:
        show_history(_console(), model)


@app.command()
@exit_with_message
def verify(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS or NAME/VERSION of a registered model.")],
    as_json: JsonOption = False,
) -> None:
    """Compare the files of a registered version with what was measured, and its outputs on this
    machine with the measured ones.

    Exit codes: 0 they are the same; 1 they are not.
    """
    from .registry import verdict_of

    verdict = verdict_of(model)
    if as_json:
        _print_json({**verdict.model_dump(mode="json"), "holds": verdict.passes})
    else:
        _console().print(verdict.sentence, highlight=False, markup=False, soft_wrap=True)
    _exit(0 if verdict.passes else 1)


@app.command()
@exit_with_message
def listen(
    rules: Annotated[
        str | None, typer.Option("--rules", help="The rules file. Default: HONE_RULES.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8642,
    secret_env: Annotated[
        list[str] | None,
        typer.Option(
            "--secret-env",
            help="Environment variable with the webhook's secret. Default: HONE_WEBHOOK_SECRET. "
            "Given twice, either secret is accepted.",
        ),
    ] = None,
    secret_block: Annotated[
        list[str] | None,
        typer.Option("--secret-block", help="Prefect Secret block with the webhook's secret."),
    ] = None,
    poll: Annotated[
        float,
        typer.Option("--poll", min=0, help="Seconds between looks for lost events; 0: never."),
    ] = 300,
    register: Annotated[
        bool,
        typer.Option("--register", help="Make the webhook on the MLflow server, test it, and end."),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="With --register: the listener as the MLflow server reaches it."
        ),
    ] = None,
) -> None:
    """Start deployments on events of the MLflow registry, by rules, until it is ended.

    It needs a Prefect server (PREFECT_API_URL) and an MLflow server (MLFLOW_TRACKING_URI).
    """
    from .listen import ListenOptions, listen_command

    listen_command(
        _console(),
        ListenOptions(
            rules=rules, host=host, port=port, secret_env=secret_env or [],
            secret_block=secret_block or [], poll=poll, url=url, register=register,
        ),
    )  # fmt: skip


@app.command("gc")
@exit_with_message
def collect_garbage(
    days: Annotated[
        float, typer.Option("--days", min=1, help="How long a result may be unused (days).")
    ] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove from the store what no run, version or cache needs any more.

    It says what and how much before it removes anything. The artifacts of registered versions and
    MLflow's own files are never touched.
    """
    from .gc import gc_command

    gc_command(_console(), days, yes, dry_run)


@app.command()
@exit_with_message
def ui() -> None:
    """Open MLflow and Prefect on the embedded stores; Ctrl-C ends both."""
    from .ui import ui_command

    ui_command(_console())


@app.command()
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
    from .report import report_command

    report_command(_console(), runs or [], out, show)


@app.command()
@exit_with_message
def targets(as_json: JsonOption = False) -> None:
    """List the runtimes: which are available here, and how to get the others."""
    from .tables import show_targets, target_rows

    if as_json:
        _print_json({"targets": target_rows()})
    else:
        show_targets(_console())


@app.command()
@exit_with_message
def doctor(as_json: JsonOption = False) -> None:
    """Check this machine: package versions, servers, stores, disk and cores."""
    from .doctor import diagnose, show_findings

    findings = diagnose()
    if as_json:
        _print_json({"findings": [finding.model_dump(mode="json") for finding in findings]})
    else:
        show_findings(_console(), findings)
    _exit(1 if any(finding.state == "bad" for finding in findings) else 0)


@app.command()
@exit_with_message
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to create; it must be new or empty.")],
) -> None:
    """Write a recipe and its code as a starting point."""
    from .init import write_start

    written = write_start(folder)
    console = _console()
    for path in written:
        console.print(f"wrote {path}", highlight=False, markup=False)
    console.print(f"\nTry it:  hone run {folder}/recipe.yaml", highlight=False, markup=False)


@app.command()
@exit_with_message
def setup(
    pool: Annotated[
        str | None,
        typer.Option("--pool", help="Deploy all flows to this work pool; made if it is missing."),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            "--block",
            help="Save the servers that this environment names as a block, with their credentials, "
            "and let the deployments use it.",
        ),
    ] = None,
    measurements: Annotated[
        int | None,
        typer.Option(
            "--measurements", help="Make a concurrency limit: measurements at once in the team."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")
    ] = False,
    make_pool: Annotated[
        bool,
        typer.Option(
            "--make-pool/--no-make-pool",
            help="Make a missing pool, for processes. A worker of another type makes its own.",
        ),
    ] = True,
) -> None:
    """Create on the Prefect server what Hone needs there. What is there already stays."""
    from .setup import setup_command

    setup_command(pool, block, measurements, dry_run, make_pool)


stack = typer.Typer(
    help="A team's servers on this machine: PostgreSQL, Redis, Prefect, MLflow, Ray, a worker.",
    no_args_is_help=True,
)
app.add_typer(stack, name="stack")


@stack.command("up")
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
    from .stack import start_stack

    start_stack(seconds, set_up)


@stack.command("down")
@exit_with_message
def stack_down(
    delete: Annotated[
        bool, typer.Option("--delete-data", help="Delete databases, artifacts and passwords, too.")
    ] = False,
) -> None:
    """Stop the servers of the stack. What they keep stays, unless asked otherwise."""
    from ..operate.stack.stack import down, stack_folder
    from .stack import say

    down(stack_folder(), say, delete)


@stack.command("status")
@exit_with_message
def stack_status(as_json: JsonOption = False) -> None:
    """Show how each server is. Exit code 1 if one does not answer."""
    from ..operate.stack.stack import stack_folder, status
    from .stack import show_status

    found = status(stack_folder())
    if as_json:
        _print_json({"services": [asdict(state) for state in found]})
    else:
        show_status(_console(), found)
    _exit(0 if found and all(state.state == "answers" for state in found) else 1)


@stack.command("env")
@exit_with_message
def stack_env() -> None:
    """Print lines for a shell that make its commands use the stack. They contain its passwords."""
    from .stack import print_exports

    print_exports()


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


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 240
    return Console(stderr=stderr, width=None if os.environ.get("COLUMNS") else width)


def _print_json(value: dict[str, Any]) -> None:
    write_json(json.dumps(value, indent=1))


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _lost(error: OutputLost) -> int:
    """The exit code of a command whose output can't be written: quiet if nobody reads it."""
    if error.reader_is_gone:
        return EXIT_NO_READER
    sys.stderr.write(f"hone: the output can't be written: {telling(error)}\n")
    return 1


def main() -> NoReturn:
    """Entry point."""
    # Importing Prefect and MLflow makes millions of objects that stay. With Python's threshold of
    # 700 new ones, looking for garbage among them takes a tenth of a short run.
    gc.set_threshold(100_000, 50, 100)
    guard_output()
    ignore_the_current_folder()
    code: int | str | None = 0
    try:
        app()
    except SystemExit as exit_:
        code = exit_.code
    except OutputLost as error:
        code = _lost(error)
    try:
        flush_output()
    except OutputLost as error:
        code = code or _lost(error)
    leave(code)


if __name__ == "__main__":
    main()
