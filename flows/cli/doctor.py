"""`hone doctor`: is this machine ready, and if not, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Annotated, Literal

import psutil
from packaging.requirements import Requirement
from pydantic import AfterValidator
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...ray_workers.access import probe
from ...ray_workers.cluster import cores
from ...ray_workers.limited import within
from ...ray_workers.processor import processor
from ...ray_workers.store.artifacts import Store
from ...recipe.errors import HoneError, StoreError
from ...recipe.library_messages import telling
from ...recipe.showable import showable
from ...recipe.strict import Strict
from ..engine.settings import Settings
from .prefect_server import configured_url, problem_with
from .tables import target_rows

_STORE_SECONDS = 15.0
_LITTLE_DISK = 2e9  # bytes
_LITTLE_MEMORY = 2e9  # bytes


class Finding(Strict):
    """What was checked, its state, and what to do if it isn't good."""

    subject: str
    state: Literal["good", "note", "bad"]
    text: Annotated[str, AfterValidator(showable)]


def diagnose() -> list[Finding]:
    """Check everything that a run needs. Starts nothing and changes nothing."""
    settings = Settings.from_environment()
    mlflow, prefect = _mlflow(settings), _prefect()
    return [
        Finding(subject="Python", state="good", text=sys.version.split()[0]),
        *_versions(),
        _machine(),
        _home(settings),
        _store(settings),
        mlflow,
        prefect,
        *_events(settings, mlflow, prefect),
        _ray(settings),
        *_targets(),
    ]


def _versions() -> list[Finding]:
    try:
        declared = importlib.metadata.requires("prefect-hone") or []
    except importlib.metadata.PackageNotFoundError:
        text = "prefect-hone is not installed: pip install -e ."
        return [Finding(subject="packages", state="bad", text=text)]
    wrong = []
    count = 0
    for line in declared:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, expected {requirement.specifier}")
    if wrong:
        text = "; ".join(wrong) + "; install with the exact versions of constraints.txt"
        return [Finding(subject="packages", state="bad", text=text)]
    text = f"{count} packages, all within their ranges"
    return [Finding(subject="packages", state="good", text=text)]


def _machine() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{processor()}, {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free"
    if memory.available < _LITTLE_MEMORY:
        return Finding(subject="machine", state="note", text=f"{text}: training may run out of it")
    if cores() < 2:
        text += ": a recipe with 2 workers needs 2 cores, or resources: {cpus: 0.5}"
        return Finding(subject="machine", state="note", text=text)
    return Finding(subject="machine", state="good", text=text)


def _home(settings: Settings) -> Finding:
    place = settings.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        text = f"{settings.home} can't be written: set HONE_HOME to a folder that you can write to"
        return Finding(subject="HONE_HOME", state="bad", text=text)
    free = shutil.disk_usage(place).free
    text = f"{settings.home}, {free / 1e9:.1f} GB free"
    return Finding(subject="HONE_HOME", state="note" if free < _LITTLE_DISK else "good", text=text)


def _store(settings: Settings) -> Finding:
    if "://" not in settings.store:
        folder = Path(settings.store)
        said = "exists" if folder.exists() else "created by the first run"
        return Finding(subject="store", state="good", text=f"{settings.store} ({said})")
    where = f"HONE_STORE={settings.store}"
    late = StoreError(f"it did not answer within {_STORE_SECONDS:g} s", where=where)

    def try_out() -> None:
        store = Store(settings.store, settings.cache)
        store.try_out(f"steps/doctor-{uuid.uuid4().hex}.json")

    try:
        within(_STORE_SECONDS, try_out, lambda: late)
    except HoneError as error:
        return Finding(subject="store", state="bad", text=str(error))
    except Exception as error:  # each kind of store has its own
        text = f"{settings.store} can't be used: {telling(error)}"
        return Finding(subject="store", state="bad", text=text)
    return Finding(subject="store", state="good", text=settings.store)


def _mlflow(settings: Settings) -> Finding:
    uri = settings.tracking
    if not uri.startswith("http"):
        return Finding(subject="MLflow", state="good", text=f"embedded store {uri}")
    from ...tasks.tracking import health

    problem = health.problem_with(uri, 5)
    if problem is None and (refused := health.denied(uri, 5)):
        text = f"{uri} {refused}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Finding(subject="MLflow", state="bad", text=text)
    if problem is None:
        return _speed_of_mlflow(uri, health.late_answers(uri, 5))
    text = f"{uri} does not answer ({problem}): start it, or unset MLFLOW_TRACKING_URI"
    return Finding(subject="MLflow", state="bad", text=text)


def _speed_of_mlflow(uri: str, late: tuple[float, float] | None) -> Finding:
    if late is None:
        return Finding(subject="MLflow", state="good", text=uri)
    first, kept = (f"{1000 * one:.0f} ms" for one in late)
    text = (
        f"{uri}: an answer takes {first} on a new connection and {kept} on one that is kept: "
        "install uvloop beside the MLflow server, or start it with --workers 1"
    )
    return Finding(subject="MLflow", state="note", text=text)


def _prefect() -> Finding:
    url = configured_url()
    if url is None:
        text = "none configured: each run starts one for itself"
        return Finding(subject="Prefect", state="good", text=text)
    problem = problem_with(url)
    if problem is None:
        return Finding(subject="Prefect", state="good", text=url)
    text = f"{url} {problem}: `prefect server start`, or unset PREFECT_API_URL"
    if "denies" in problem:
        text = f"{url} {problem}: set PREFECT_API_AUTH_STRING to USER:PASSWORD"
    return Finding(subject="Prefect", state="bad", text=text)


def _events(settings: Settings, mlflow: Finding, prefect: Finding) -> list[Finding]:
    """The rules for registry events, and whether MLflow's events arrive."""
    served = settings.tracking.startswith("http")
    if mlflow.state == "bad" or not (served or os.environ.get("HONE_RULES")):
        return []
    from ..operate.event_checks import check_events

    answering = prefect.state == "good" and configured_url() is not None
    found = check_events(settings.tracking, answering)
    return [Finding(subject=subject, state=state, text=text) for subject, state, text in found]


def _ray(settings: Settings) -> Finding:
    address = settings.ray_address
    if address is None:
        text = f"none configured: each run starts one here with {cores()} CPUs"
        return Finding(subject="Ray", state="good", text=text)
    try:
        way = probe(address)
    except HoneError as error:
        return Finding(subject="Ray", state="bad", text=str(error))
    if way.open_to_all:
        text = (
            f"{address} admits everyone who can reach it: `ray get-auth-token --generate` on its "
            "head node, before `ray start --head`, makes it require a token"
        )
        return Finding(subject="Ray", state="note", text=text)
    text = address if way.token is None else f"{address}, with the token of {way.token}"
    return Finding(subject="Ray", state="good", text=text)


def _targets() -> list[Finding]:
    found = []
    for row in target_rows():
        good = bool(row["available"])
        text = f"version {row['version']}" if good else f"{row['reason']}: {row['do']}"
        found.append(
            Finding(subject=f"target {row['target']}", state="good" if good else "note", text=text)
        )
    return found


def show_findings(console: Console, findings: list[Finding]) -> None:
    """The findings as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    marks = {"good": "[green]✓[/]", "note": "[yellow]![/]", "bad": "[red]✗[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, escape(finding.text))
    console.print(table)
