"""`hone approve`, `promote`, `rollback`, `history` and `verify`: the model registry, by hand."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...recipe.errors import InputError
from ...recipe.showable import showable
from ...tasks.tracking.account import account
from ...tasks.tracking.approvals import approve, reject
from ...tasks.tracking.champion_files import verified_version
from ...tasks.tracking.copy_version import copy_version
from ...tasks.tracking.ledger import Entry
from ...tasks.tracking.promote_version import promote_version
from ...tasks.tracking.registered_bytes import Verdict, verify
from ...tasks.tracking.rollback import history, repair, rollback
from ...tasks.tracking.statements import stated
from ...tasks.tracking.tracker import quiet_mlflow
from ..engine import run_count
from ..engine.home import usable_settings
from ..engine.provenance_check import Provenance, recomputed
from ..engine.session import open_store
from .prefect_server import configured_url

_NAMED = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|(?P<alias>@[^/@]+))$")


def approve_command(
    console: Console, model: str, version: str, reason: str, who: str | None
) -> None:
    """Approve a version that waits for it.

    Raises:
        HoneError: The approval doesn't hold.
    """
    _show(console, model, approve(_tracking(), model, version, who or account(), reason))


def reject_command(
    console: Console, model: str, version: str, reason: str, who: str | None
) -> None:
    """Turn down a version that waits for approval.

    Raises:
        HoneError: It does not wait.
    """
    reject(_tracking(), model, version, who or account(), reason)
    text = f"{model}: version {version} was rejected; the champion stays"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def promote_command(
    console: Console, model: str, version: str, reason: str, who: str | None, alias: str
) -> None:
    """Promote a registered version.

    Raises:
        HoneError: It has no evidence, or its files are not those that were measured.
    """
    who = who or account()
    entry = promote_version(_tracking(), model, version, who=who, reason=reason, alias=alias)
    _show(console, model, entry)


def rollback_command(
    console: Console, model: str, version: str | None, reason: str, who: str | None, alias: str
) -> None:
    """Go back to an earlier champion.

    Raises:
        HoneError: There is nothing to go back to, or its files are not those that were measured.
    """
    entry = rollback(_tracking(), model, version, reason, who or account(), alias=alias)
    _show(console, model, entry)


def copy_command(
    console: Console, named: str, target: str, name: str | None, who: str | None
) -> None:
    """Copy a version to another registry.

    Raises:
        HoneError: It has no evidence, or its files are not those that were measured.
    """
    verdict = verdict_of(named)
    made = copy_version(
        _tracking(), target, verdict.model, verdict.version, name=name, who=who or account()
    )
    new = "" if made.new else ", which held it already"
    text = f"models:/{made.model}/{made.version} at {showable(target)}{new}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def history_rows(model: str) -> list[dict[str, Any]]:
    """The changes of a model's aliases, the oldest first; what was made past Hone is entered first.

    Raises:
        HoneError: MLflow can't be reached.
    """
    tracking = _tracking()
    repair(tracking, model)
    return [
        {
            "when": datetime.fromtimestamp(entry.time_ms / 1000, UTC).isoformat(timespec="seconds"),
            "alias": entry.record.alias,
            "from": entry.record.before,
            "to": entry.record.after,
            "action": _action(entry),
            "who": entry.record.who,
            "why": entry.record.why,
            "evidence": entry.record.evidence,
        }
        for entry in history(tracking, model)
    ]


def show_history(console: Console, model: str) -> None:
    """The changes as a table."""
    rows = history_rows(model)
    if not rows:
        console.print(f"nothing was ever promoted in {model}", highlight=False, markup=False)
        return
    table = Table(header_style="bold", pad_edge=False)
    for header in ("when (UTC)", "alias", "from", "to", "action", "who", "why"):
        table.add_column(header)
    for row in rows:
        when = str(row["when"]).removesuffix("+00:00").replace("T", " ")
        cells = (when, row["alias"], row["from"], row["to"], row["action"], row["who"], row["why"])
        table.add_row(*(escape(str(cell or "")) for cell in cells))
    console.print(table)


@contextlib.contextmanager
def files_of_version(named: str) -> Iterator[Path]:
    """The folder of a version's model, whose files are those that were measured.

    Raises:
        InputError: It names none.
        HoneError: Its files were changed, or can't be read.
    """
    match = _NAMED.match(named)
    if match is None:
        raise InputError(
            "this is no folder and names no version",
            where=named,
            do="give a folder, NAME@ALIAS or NAME/VERSION",
        )
    with verified_version(_tracking(), match["name"], match["version"] or match["alias"]) as data:
        yield data


def verdict_of(named: str) -> Verdict:
    """Whether a version holds what was measured.

    Raises:
        InputError: It names none.
    """
    match = _NAMED.match(named)
    if match is None:
        raise InputError("this names no version", where=named, do="give NAME@ALIAS or NAME/VERSION")
    return verify(_tracking(), match["name"], match["version"] or match["alias"])


def provenance_of(verdict: Verdict) -> Provenance:
    """What is stated of a version, recomputed here.

    Raises:
        HoneError: MLflow or the store can't be read.
    """
    settings = usable_settings()
    said = stated(settings.tracking, verdict.model, verdict.version)
    if said.text is None:
        return Provenance(run_id=said.run_id, why=said.why)
    store = open_store(settings)
    return recomputed(said.run_id, said.text, verdict.artifact, said.recipe_digest, store)


def show_provenance(console: Console, found: Provenance) -> None:
    """The items of a version's provenance."""
    console.print(found.sentence, highlight=False, markup=False, soft_wrap=True)
    width = max((len(item.result) for item in found.items), default=0)
    for item in found.items:
        line = f"  {item.result:{width}}  {item.kind} {item.name}: {item.said}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _action(entry: Entry) -> str:
    return "past Hone" if entry.record.event == "observed" else str(entry.record.action)


def _show(console: Console, model: str, entry: Entry) -> None:
    """Print a change, count it, and tell Prefect of it, where automations may wait for it."""
    console.print(
        f"{model}: {entry.record.sentence}", highlight=False, markup=False, soft_wrap=True
    )
    if configured_url() is None:
        run_count.champion_changed(model, entry.record)
        return
    from ..engine.events import champion_changed
    from ..prefect_private import send_what_is_left

    champion_changed(model, entry.record)
    send_what_is_left(5)


def _tracking() -> str:
    quiet_mlflow()
    return usable_settings().tracking
