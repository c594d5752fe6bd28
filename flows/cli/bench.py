"""`hone bench`: compiled models beside each other on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...ray_workers.cluster import cores
from ...recipe.benchmark import Benchmark, Offline, Scenario, Server
from ...recipe.errors import InputError
from ...recipe.measures import bytes_in_words
from ...tasks.benchmark.side_by_side import Compiled, Row, SideBySide, inputs_for, side_by_side
from ...tasks.report.scenarios import said_rate
from ...tasks.specs.benchmark import Timing
from .registry import files_of_version


def bench_command(
    console: Console,
    models: list[str],
    inputs: Path | None,
    asked: Benchmark,
) -> SideBySide:
    """Measure models given as folders or by their names in the registry.

    Raises:
        HoneError: One is no compiled model, or was changed, or the first can't be measured.
    """
    _check_room(asked)
    if doubled := {name for name in models if models.count(name) > 1}:
        # The same model twice shows what the measurement can tell apart: by two paths, or copies.
        raise InputError("this is given twice", where=sorted(doubled)[0])
    with contextlib.ExitStack() as stack:
        compiled = [stack.enter_context(_compiled(name)) for name in models]
        return side_by_side(
            compiled,
            inputs_for(compiled, inputs),
            asked,
            note=lambda text: console.print(text, highlight=False, markup=False),
        )


def asked_scenarios(offline: bool, p99_ms: float | None, instances: int) -> tuple[Scenario, ...]:
    """The scenarios that options ask for.

    Raises:
        InputError: There are instances, but no scenario.
    """
    found: list[Scenario] = []
    if offline:
        found.append(Offline(kind="offline", instances=instances))
    if p99_ms is not None:
        found.append(Server(kind="server", p99_ms=p99_ms, instances=instances))
    if instances > 1 and not found:
        raise InputError(
            "a single stream has one process",
            where="--instances",
            do="add --offline or --server MS",
        )
    return tuple(found)


def _check_room(asked: Benchmark) -> None:
    """Refuse more threads at once than this process may use cores.

    Raises:
        InputError: There are too many.
    """
    available = cores()
    for scenario in asked.scenarios:
        if scenario.instances > 1 and scenario.instances * asked.threads > available:
            raise InputError(
                f"{scenario.instances} processes with {asked.threads} "
                f"thread{'s' if asked.threads > 1 else ''} each don't fit on {available} cores "
                "side by side",
                where="--instances",
                do=f"give at most {max(1, available // asked.threads)}",
            )


@contextlib.contextmanager
def _compiled(named: str) -> Iterator[Compiled]:
    """A model: a folder where there is one, else a version, whose files are verified first."""
    folder = Path(named)
    if folder.is_dir():
        yield Compiled.read(named, folder)
        return
    with files_of_version(named) as found:
        yield Compiled.read(named, found)


def show_side_by_side(console: Console, found: SideBySide) -> None:
    """A table for each batch size."""
    sizes = sorted({size for row in found.rows for size in row.timings})
    for size in sizes:
        console.print(_table(found.rows, size))
    if any(row.scenarios for row in found.rows):
        console.print(_scenario_table(found.rows))
    for row in found.rows:
        if row.failed is not None:
            console.print(f"{row.name}: {row.failed}", highlight=False, markup=False, style="red")
    if (told := found.others.told()) is not None:
        console.print(told, highlight=False, markup=False, soft_wrap=True, style="yellow")


def _table(rows: list[Row], size: int) -> Table:
    table = Table(title=f"{size} sample{'s' if size > 1 else ''} a call", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("runtime")
    for header in ("p50 ms", "p90 ms", "samples/s", "times faster", "start s", "memory", "size"):
        table.add_column(header, justify="right")
    first = rows[0].name
    for row in rows:
        timing = row.timings.get(size)
        if timing is None:
            continue
        table.add_row(
            escape(row.name),
            row.runtime,
            f"{timing.p50_ms:.4g} [{timing.p50_ms_low:.4g}, {timing.p50_ms_high:.4g}]",
            "too few calls" if timing.p90_ms is None else f"{timing.p90_ms:.4g}",
            f"{timing.samples_per_s:,.0f}",
            "1" if row.name == first else _ratio(timing),
            "" if row.cold is None else f"{row.cold.first_answer_s:.2f}",
            "" if row.memory_bytes is None else bytes_in_words(row.memory_bytes),
            bytes_in_words(row.size_bytes),
        )
    return table


def _scenario_table(rows: list[Row]) -> Table:
    table = Table(title="scenarios", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("scenario")
    for header in ("a second", "p99 ms", "processes", "calls"):
        table.add_column(header, justify="right", overflow="fold")
    for row in rows:
        for kind, found in row.scenarios.items():
            table.add_row(
                escape(row.name),
                kind,
                said_rate(found),
                "" if found.p99_ms is None else f"{found.p99_ms:.3g}",
                str(found.instances),
                f"{found.calls:,}",
            )
    return table


def _ratio(timing: Timing) -> str:
    """How many times faster than the first, with its interval; whether that can be told."""
    if timing.ratio is None or timing.ratio_low is None or timing.ratio_high is None:
        return ""
    text = f"{timing.ratio:.3g} [{timing.ratio_low:.3g}, {timing.ratio_high:.3g}]"
    return f"{text}, can't be told apart" if timing.ratio_low <= 1 <= timing.ratio_high else text
