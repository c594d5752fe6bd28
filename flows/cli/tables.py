"""Tables that the commands print: an outcome, a plan, the targets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...recipe.measures import bytes_in_words
from ...recipe.schema import Recipe
from ...recipe.showable import showable
from ...runtimes.isolated.environment import environment
from ...tasks.compile import target_functions
from ...tasks.keys import library_version
from ...tasks.outcome import CandidateStatus, Outcome
from ...tasks.report.measured_again import in_words
from ...tasks.report.table import caption, departures, headers, headline, ordered, rows
from ..engine.memory_plan import MemoryPlan
from ..engine.plan import Plan, needs
from ..engine.settings import Settings
from ..engine.shipped_code import ShippedCode

_STYLES = {
    CandidateStatus.PASSED: "",
    CandidateStatus.GATED: "yellow",
    CandidateStatus.FAILED: "red",
    CandidateStatus.UNCHANGED: "dim",
    CandidateStatus.SKIPPED: "dim",
}


#: Of files in a line.
_MOST_NAMES = 8


def show_outcome(
    console: Console, outcome: Outcome, recipe: Recipe, told: Collection[str] = ()
) -> None:
    """The table of candidates, who won and why, and what failed.

    Args:
        console: Where to.
        outcome: Of the run.
        recipe: Of the run.
        told: Errors that were shown while it ran.
    """
    names, all_rows = headers(outcome), rows(outcome, recipe)
    found = [_STYLES[candidate.status] for candidate in ordered(outcome)]
    styles = [*["dim"] * (len(all_rows) - len(found)), *found]
    winner = outcome.winner
    table = Table(header_style="bold", expand=False, pad_edge=False)
    shown = [names.index(header) for header in headers(outcome, console.width)]
    for i in shown:
        is_number = 0 < i < len(names) - 1
        table.add_column(
            names[i], justify="right" if is_number else "left", no_wrap=i < len(names) - 1
        )
    for style, row in zip(styles, all_rows, strict=True):
        cells = [f"★ {row[0]}" if row[0] == winner else row[0], *row[1:]]
        table.add_row(
            *(escape(cells[i].replace(" [", "\n[")) for i in shown),
            style="bold green" if row[0] == winner else style,
        )
    console.print()
    console.print(table)
    console.print(caption(recipe, outcome), style="dim", highlight=False)
    if said := in_words(outcome, recipe):
        console.print(escape(said), style="dim", highlight=False)
    failed: dict[str, list[str]] = {}
    for candidate in outcome.candidates:
        if candidate.error and candidate.error not in told:
            failed.setdefault(candidate.error, []).append(candidate.name)
    for error, names_of_it in failed.items():
        console.print(f"[red]{escape(', '.join(names_of_it))}[/]: {escape(error)}")
    for name, said in departures(outcome):
        console.print(f"[yellow]{escape(name)}[/]: {escape(said)}", highlight=False)
    style = "green" if outcome.winner else "yellow"
    console.print(f"\n[bold {style}]{escape(headline(outcome))}[/]", highlight=False)


def show_places(
    console: Console, settings: Settings, outcome: Outcome, prefect_url: str | None, flow_run: str
) -> None:
    """Where to find more: MLflow, Prefect, and the registered model."""

    def line(name: str, text: str) -> None:
        console.print(f"{name:8}{text}", highlight=False, soft_wrap=True, markup=False)

    if outcome.champion is not None:
        champion = outcome.champion
        line("Use it", f'mlflow.pyfunc.load_model("models:/{champion.model}@{champion.alias}")')
    if outcome.pending is not None and outcome.promotion == "approve":
        pending = outcome.pending
        line("Approve", f"hone approve {pending.model} {pending.version} --reason WHY")
    tracking = showable(settings.tracking)
    if tracking.startswith("http"):
        line("MLflow", f"{tracking}  run {outcome.run_id}")
    else:
        line("MLflow", f"mlflow ui --backend-store-uri {tracking}  run {outcome.run_id}")
    page = f"/runs/flow-run/{flow_run}"
    if prefect_url is not None:
        line("Prefect", showable(prefect_url).removesuffix("/api") + page)
    else:
        line("Prefect", f"prefect server start, then http://127.0.0.1:4200{page}")


def show_plan(console: Console, plan: Plan, recipe: Recipe, memory: MemoryPlan | None) -> None:
    """Each step: cached or to be computed, what it needs, how long it took before."""
    table = Table(header_style="bold", pad_edge=False)
    for header in ("step", "", "needs", "took"):
        table.add_column(header)
    for step in plan.steps:
        took = "" if step.seconds is None else f"{step.seconds:.1f} s"
        if step.cached:
            table.add_row(escape(step.call.label), "[green]cached[/]", "", took)
        else:
            asked = needs(recipe, step.call)
            table.add_row(escape(step.call.label), "[yellow]to compute[/]", asked, took)
    for candidate in plan.candidates:
        if candidate.unavailable is not None:
            reason = candidate.unavailable.reason
            table.add_row(escape(candidate.name), "[dim]skipped[/]", escape(reason), "")
    console.print(table)
    count = len(plan.to_compute)
    said = (
        f"{count} of {len(plan.steps)} steps would be computed" if count else "nothing to compute"
    )
    console.print(
        f"{said}; then gates, selection and promotion of "
        f"models:/{recipe.registry.model}@{recipe.registry.alias}",
        highlight=False,
    )
    for text in plan.told:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(_memory_line(memory), highlight=False)


def show_outside(console: Console, modules: Collection[str]) -> None:
    """Which modules are imported from outside the code folder and the installed packages."""
    if modules:
        console.print(
            f"code: imported from elsewhere, and part of the cache keys: {', '.join(modules)}",
            highlight=False, markup=False,
        )  # fmt: skip


def show_code(console: Console, code: ShippedCode) -> None:
    """Which files of the code folder go to workers and MLflow, and which stay and why."""
    if not code.files and not code.left_out:
        return
    some = ", ".join(list(code.files)[:_MOST_NAMES])
    more = f" and {len(code.files) - _MOST_NAMES} more" if len(code.files) > _MOST_NAMES else ""
    files = "1 file" if len(code.files) == 1 else f"{len(code.files)} files"
    go = "goes" if len(code.files) == 1 else "go"
    lines = [f"code: {files} ({bytes_in_words(code.size)}) {go} to the workers and to MLflow: "
             f"{some}{more}"]  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for name, why in code.left_out.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        lines.append(f"code: left out as {why}: {', '.join(names[:_MOST_NAMES])}{more}")
    console.print("\n".join(lines), highlight=False, markup=False)


def _memory_line(memory: MemoryPlan | None) -> str:
    """Parameters, memory of each worker, and whether there is room for it."""
    if memory is None:
        return (
            "[dim]parameters and memory: known after the first run; or use hone plan --estimate[/]"
        )
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
    }
    held = ", ".join(
        f"{name} {bytes_in_words(count)}" for name, count in parts.items() if count is not None
    )
    said = (
        f"{memory.parameters:,} parameters; each of {memory.workers} workers holds about "
        f"{bytes_in_words(memory.total)} ({held}) beside its libraries"
    )
    if memory.available is None:
        return said
    needed, available = bytes_in_words(memory.needed), bytes_in_words(memory.available)
    room = f"{needed} of the cluster's {available} {memory.device} memory"
    return f"{said}: {room}" if memory.fits else f"{said}: [red]too much, {room}[/]"


def target_rows() -> list[dict[str, str | bool | None]]:
    """Each target, whether it runs here, what it needs, and what to do if it doesn't run."""
    from ...recipe.targets import OpenVinoCpu, all_targets

    specs = [*all_targets(), OpenVinoCpu(kind="openvino-cpu", precision="bf16")]
    return [_target_row(spec) for spec in specs]


def _target_row(spec: Any) -> dict[str, str | bool | None]:
    unavailable = target_functions(spec.kind).availability(spec)
    own = f"{spec.environment}:" if spec.environment is not None else ""
    return {
        "target": spec.name,
        "available": unavailable is None,
        "version": library_version(f"{own}{spec.runtime}"),
        "needs": _needs(spec),
        "reason": unavailable.reason if unavailable else None,
        "do": unavailable.do if unavailable else None,
    }


def _needs(spec: Any) -> str:
    """In a few words."""
    if spec.environment is not None:
        state = "created" if environment(spec.environment).is_made else "created at first use"
        return f"{spec.needs} ({state})"
    return str(spec.needs)


def show_targets(console: Console) -> None:
    """The targets as a table."""
    table = Table(header_style="bold", pad_edge=False)
    for header in ("target", "available", "runtime", "needs", "what to do"):
        table.add_column(header)
    for row in target_rows():
        available = "[green]yes[/]" if row["available"] else "[red]no[/]"
        do = "" if row["available"] else f"{row['reason']}: {row['do']}"
        table.add_row(
            str(row["target"]), available, str(row["version"]), str(row["needs"]), escape(do)
        )
    console.print(table)
