"""What Hone needs on a Prefect server: the block, a concurrency limit, an automation, deployments.

Each part is compared with what is there, so that a second `hone setup` changes nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import (
    AutomationCore,
    EventTrigger,
    Posture,
)
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr

from ...recipe.errors import InputError
from ..engine.blocks import VARIABLE, HoneServers
from ..engine.settings import Settings
from .deployments import FLOWS, HEARTBEAT, Asked, build, deploy, require_pool

MEASURING = "hone-measuring"
ZOMBIES = "hone: end runs whose process is gone"
#: Name of the deployment that each flow gets.
DEPLOYMENT = "hone"


@dataclass(frozen=True)
class Wanted:
    """What `hone setup` is asked for.

    Attributes:
        pool: The work pool of the deployments; it is created, for processes, if it is missing.
        block: A block to save, of the servers that this environment names; None: only the type.
        measurements: How many measurements may run at once on the whole team's machines; None:
            no limit, because the lock of each machine is enough.
        dry_run: Change nothing.
        make_pool: Create the pool if it is missing. A worker of another type makes its own.
    """

    pool: str | None = None
    block: str | None = None
    measurements: int | None = None
    dry_run: bool = False
    make_pool: bool = True


@dataclass(frozen=True)
class Change:
    """What was done about one part: what it is, its name, and whether it changed."""

    kind: str
    name: str
    done: Literal["created", "updated", "as it was"]

    def told(self, dry_run: bool) -> str:
        would = {"created": "would be created", "updated": "would be updated"}
        done = would.get(self.done, self.done) if dry_run else self.done
        return f"{self.kind} {self.name}: {done}"


def set_up(wanted: Wanted) -> Iterator[Change]:
    """Create or update each part on the configured server, and say what was done.

    Raises:
        InputError: The pool is missing, and must not be made here.
    """
    with get_client(sync_client=True) as client:
        yield _block_type(client, wanted)
        if wanted.measurements is not None:
            yield _limit(client, wanted.measurements, wanted.dry_run)
        if wanted.block is not None:
            yield _block(client, wanted)
        yield _automation(client, wanted.dry_run)
        if wanted.pool is not None:
            if wanted.make_pool:
                yield _pool(client, wanted.pool, wanted.dry_run)
            else:
                require_pool(wanted.pool)
            for flow in FLOWS:
                yield _deployment(client, flow, wanted)


def _block_type(client: SyncPrefectClient, wanted: Wanted) -> Change:
    name = HoneServers.get_block_type_slug()
    try:
        client.read_block_type_by_slug(name)
        done: Any = "as it was"
    except ObjectNotFound:
        done = "created"
    if not wanted.dry_run:
        HoneServers.register_type_and_schema()
    return Change("block type", name, done)


def _block(client: SyncPrefectClient, wanted: Wanted) -> Change:
    assert wanted.block is not None  # noqa: S101 (narrows a type)
    limit = MEASURING if wanted.measurements is not None else None
    block = servers_here(limit)

    def write() -> None:
        block.save(wanted.block, overwrite=True)

    there: HoneServers | None = None
    try:
        there = HoneServers.load(wanted.block)  # type: ignore[assignment]
    except ValueError as error:
        if "Unable to find" not in str(error):
            raise
    same = there is not None and there.variables() == block.variables()
    return _kept("block", f"{block.get_block_type_slug()}/{wanted.block}", there, same, write,
                 wanted.dry_run)  # fmt: skip


def servers_here(measuring_limit: str | None = None) -> HoneServers:
    """A block of the servers that this process's environment names, with their credentials."""
    settings = Settings.from_environment()

    def given(name: str) -> str | None:
        return os.environ.get(name) or None

    def secret(name: str) -> SecretStr | None:
        value = given(name)
        return None if value is None else SecretStr(value)

    def listed(name: str) -> list[str]:
        return [part.strip() for part in (given(name) or "").split(",") if part.strip()]

    return HoneServers(
        mlflow_tracking_uri=given("MLFLOW_TRACKING_URI"),
        mlflow_username=given("MLFLOW_TRACKING_USERNAME"),
        mlflow_password=secret("MLFLOW_TRACKING_PASSWORD"),
        mlflow_token=secret("MLFLOW_TRACKING_TOKEN"),
        ray_address=settings.ray_address,
        ray_token=secret("RAY_AUTH_TOKEN"),
        ray_runtime=settings.ray_runtime,
        store=given("HONE_STORE"),
        store_key=secret("HONE_STORE_KEY"),
        allowed_prefixes=listed("HONE_ALLOWED_PREFIXES"),
        allowed_paths=listed("HONE_ALLOWED_PATHS"),
        gates=list(settings.gates),
        measuring_limit=measuring_limit or settings.measuring_limit,
    )


def _limit(client: SyncPrefectClient, limit: int, dry_run: bool) -> Change:
    there = None
    with contextlib.suppress(ObjectNotFound):
        there = client.read_global_concurrency_limit_by_name(MEASURING)
    same = there is not None and there.limit == limit

    def write() -> None:
        client.upsert_global_concurrency_limit_by_name(MEASURING, limit)

    return _kept("concurrency limit", MEASURING, there, same, write, dry_run)


def zombie_automation() -> AutomationCore:
    """Ends a flow run of Hone as crashed after three missed heartbeats.

    Any event of the run counts as a sign of life, because a run ends in states of many names
    (NoCandidatePassed, AwaitingApproval). It looks only at deployments, whose workers are told to
    send heartbeats often enough.
    """
    return AutomationCore(
        name=ZOMBIES,
        description="Hone's flow runs that sent no heartbeat three times: their process or machine "
        "is gone. As crashed runs they free their concurrency slots. Made by `hone setup`.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": ["prefect.tag.hone"], "prefect.resource.role": ["tag"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=datetime.timedelta(seconds=3 * HEARTBEAT),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {3 * HEARTBEAT} s: its process or machine is gone",
            )
        ],
    )


def _automation(client: SyncPrefectClient, dry_run: bool) -> Change:
    wanted = zombie_automation()
    found = client.read_automations_by_name(ZOMBIES)
    there = found[0] if found else None

    def compared(automation: AutomationCore) -> Any:
        said = automation.model_dump(mode="json", include={"trigger", "actions", "description"})
        said["trigger"].pop("id", None)
        for key in ("after", "expect", "for_each"):
            said["trigger"][key] = sorted(said["trigger"][key])
        return said

    same = there is not None and compared(there) == compared(wanted)

    def write() -> None:
        if there is None:
            client.create_automation(wanted)
        else:
            client.update_automation(there.id, wanted)

    return _kept("automation", f"'{ZOMBIES}'", there, same, write, dry_run)


def _pool(client: SyncPrefectClient, name: str, dry_run: bool) -> Change:
    there = None
    with contextlib.suppress(ObjectNotFound):
        there = client.read_work_pool(name)

    def write() -> None:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template)
        )

    return _kept("work pool", name, there, there is not None, write, dry_run)


def _deployment(client: SyncPrefectClient, flow: str, wanted: Wanted) -> Change:
    environment = {VARIABLE: wanted.block} if wanted.block else {}
    asked = Asked(name=DEPLOYMENT, flow=flow, pool=wanted.pool, job_variables={"env": environment})
    made = build(asked)
    there = None
    with contextlib.suppress(ObjectNotFound):
        there = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
    same = (
        there is not None
        and there.work_pool_name == wanted.pool
        and (there.version, there.entrypoint) == (made.version, made.entrypoint)
        and there.job_variables == made.job_variables
        and sorted(there.tags) == sorted(made.tags)
        and there.description == made.description
    )
    return _kept("deployment", f"{flow}/{DEPLOYMENT}", there, same, lambda: _deploy(asked),
                 wanted.dry_run)  # fmt: skip


def _deploy(asked: Asked) -> None:
    deploy(asked)


def _kept(
    kind: str, name: str, there: object | None, same: bool, write: Callable[[], None], dry_run: bool
) -> Change:
    """Write a part unless it is there as it should be."""
    if there is not None and same:
        return Change(kind, name, "as it was")
    if not dry_run:
        write()
    return Change(kind, name, "created" if there is None else "updated")


def check(wanted: Wanted) -> None:
    """Refuse what can't be, before anything is made.

    Raises:
        InputError: A name or number is wrong.
    """
    if wanted.measurements is not None and wanted.measurements < 1:
        raise InputError("at least one measurement must be able to run", where="--measurements")
    if wanted.block is not None and not wanted.block.replace("-", "").isalnum():
        raise InputError(
            "a block's name has lower-case letters, digits and dashes", where="--block"
        )
