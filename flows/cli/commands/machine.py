"""Commands of this machine: targets, checks, user interfaces, leftovers, a first recipe.

Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, console_for, end_with, exit_with_message, print_json

commands = typer.Typer()


@commands.command()
@exit_with_message
def targets(as_json: JsonOption = False) -> None:
    """List the runtimes: which are available here, and how to get the others."""
    from ..tables import show_targets, target_rows

    if as_json:
        print_json({"targets": target_rows()})
    else:
        show_targets(console_for())


@commands.command()
@exit_with_message
def doctor(as_json: JsonOption = False) -> None:
    """Check this machine: package versions, servers, stores, disk and cores."""
    from ..doctor import diagnose, show_findings

    findings = diagnose()
    if as_json:
        print_json({"findings": [finding.model_dump(mode="json") for finding in findings]})
    else:
        show_findings(console_for(), findings)
    end_with(1 if any(finding.state == "bad" for finding in findings) else 0)


@commands.command()
@exit_with_message
def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Compiled models: NAME@ALIAS or NAME/VERSION of the registry, or folders. The "
            "others are compared with the first."
        ),
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            help="An .npz with an array (samples first) for each input; else a model's own.",
        ),
    ] = None,
    batch_sizes: Annotated[
        list[int] | None,
        typer.Option("--batch-size", "-b", min=1, help="Samples per call; may be repeated."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=1024, help="Threads per runtime.")
    ] = 1,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.05, max=600, help="Time for each model and batch size (s)."
        ),
    ] = 2.0,
    launches: Annotated[
        int, typer.Option("--launches", min=2, max=8, help="How often each process is started.")
    ] = 3,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Also measure how many samples are answered in a second, back to back.",
        ),
    ] = False,
    server: Annotated[
        float | None,
        typer.Option(
            "--server",
            metavar="MS",
            min=0.001,
            max=3_600_000,
            help="Also measure the highest rate of queries with random arrivals that holds this "
            "99th percentile of latency (ms).",
        ),
    ] = None,
    instances: Annotated[
        int,
        typer.Option(
            "--instances", min=1, max=256, help="Processes side by side in these scenarios."
        ),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Time compiled models beside each other on this machine, as a run does.

    Files of a registered version are compared with what was measured before they are opened.
    """
    from ....recipe.benchmark import Benchmark
    from ..bench import asked_scenarios, bench_command, show_side_by_side

    console = console_for(as_json)
    single = [1] if server is not None else []  # a query is one sample
    asked = Benchmark(
        batch_sizes=tuple(dict.fromkeys([*single, *(batch_sizes or [1])])),
        threads=threads,
        seconds=seconds,
        launches=launches,
        scenarios=asked_scenarios(offline, server, instances),
    )
    found = bench_command(console, models, inputs, asked)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_side_by_side(console, found)


@commands.command()
@exit_with_message
def ui() -> None:
    """Open MLflow and Prefect on the embedded stores; Ctrl-C ends both."""
    from ..ui import ui_command

    ui_command(console_for())


@commands.command("gc")
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
    from ..gc import gc_command

    gc_command(console_for(), days, yes, dry_run)


@commands.command()
@exit_with_message
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to create; it must be new or empty.")],
) -> None:
    """Write a recipe and its code as a starting point."""
    from ..init import write_start

    written = write_start(folder)
    console = console_for()
    for path in written:
        console.print(f"wrote {path}", highlight=False, markup=False)
    console.print(f"\nTry it:  hone run {folder}/recipe.yaml", highlight=False, markup=False)
