"""Deployments: the flows on a schedule, from a work pool or served by this process.

Every deployment names its flow by module, so a worker needs Hone installed and nothing else of it.
How the code of a recipe comes to the worker is said by the recipe: a bundled one is there; a file's
path is one of the worker's own, from an image or a pull step that clones a repository; and a recipe
that was deployed from this machine lies, with its code, in the store (`deployed_recipes.py`).
"""

from __future__ import annotations

import asyncio
import datetime
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pydantic
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
)
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.types.names import BANNED_CHARACTERS

from ..._version import __version__
from ...recipe.errors import InputError, did_you_mean

#: Seconds between two signs of life of a deployed run; the automation of `setup.py` counts them.
HEARTBEAT = 30

#: The flows, each in the module of its name.
FLOWS = ("accelerate", "train", "optimize", "benchmark", "promote", "rollback", "reconcile")


def find_flow(name: str) -> Flow[..., Any]:
    """A flow by its name.

    Raises:
        InputError: There is no such flow.
    """
    if name not in FLOWS:
        raise InputError(f"there is no flow '{name}': {did_you_mean(name, FLOWS)}", where="flow")
    module = importlib.import_module(f"...flows.{name}", __package__)
    return cast("Flow[..., Any]", getattr(module, name))


@dataclass(frozen=True)
class When:
    """When a deployment runs by itself: by one of the three, or never.

    Attributes:
        cron: A cron expression (`0 2 * * *`).
        interval: Time between runs (s).
        rrule: An RFC 5545 recurrence rule.
        timezone: Name of a time zone (`Europe/Berlin`); default UTC.
    """

    cron: str | None = None
    interval: float | None = None
    rrule: str | None = None
    timezone: str | None = None

    def schedule(self) -> Schedule | None:
        """Prefect's schedule; None if nothing is asked for.

        Raises:
            InputError: It isn't one, or there are two.
        """
        given = [n for n in ("cron", "interval", "rrule") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InputError(f"give one of --{' and --'.join(given)}", where="the schedule")
        if not given:
            if self.timezone is not None:
                raise InputError("a time zone needs a schedule", where="--timezone")
            return None
        self._check(given[0])
        every = None if self.interval is None else datetime.timedelta(seconds=self.interval)
        return Schedule(
            cron=self.cron, interval=every, rrule=self.rrule, timezone=self.timezone or "UTC"
        )

    def _check(self, name: str) -> None:
        kinds: dict[str, Any] = {
            "cron": CronSchedule, "interval": IntervalSchedule, "rrule": RRuleSchedule,
        }  # fmt: skip
        try:
            found = kinds[name](**{name: getattr(self, name)}, timezone=self.timezone)
        except (pydantic.ValidationError, ValueError) as error:
            wrong = name
            said = str(error)
            if isinstance(error, pydantic.ValidationError):
                first = error.errors(include_url=False)[0]
                wrong, said = str(first["loc"][0]), str(first["msg"]).removeprefix("Value error, ")
            do = {
                "cron": "minute, hour, day, month, weekday: '0 2 * * *' is every night at 2",
                "timezone": "give a name of the IANA list, as Europe/Berlin",
            }  # fmt: skip
            raise InputError(said, where=f"--{wrong}", do=do.get(wrong)) from None
        _require_a_time(name, found)


def _require_a_time(name: str, schedule: Any) -> None:
    """Refuse a schedule whose next time never comes, as Prefect's scheduler finds it.

    Prefect takes it, and its scheduler then starts nothing, or fails each time.

    Raises:
        InputError: 31 February, a recurrence that is over, or one that can't be computed.
    """
    from prefect.server.schemas import schedules

    known = getattr(schedules, type(schedule).__name__)
    try:
        times = asyncio.run(known(**schedule.model_dump()).get_dates(1))
    except ValueError as error:
        said = str(error) if name != "cron" else "it never comes"
        raise InputError(said, where=f"--{name}", do="correct the schedule") from None
    if not times:
        raise InputError("it never comes again", where=f"--{name}", do="correct the schedule")


def require_name(text: str, where: str) -> None:
    """Refuse a name that Prefect can't have in its addresses.

    Raises:
        InputError: It is empty, or has one of Prefect's banned characters.
    """
    if not text.strip():
        raise InputError("the name is empty", where=where)
    if not text.isprintable():
        raise InputError("the name has characters that can't be seen", where=where)
    if any(character in text for character in BANNED_CHARACTERS):
        banned = " ".join(BANNED_CHARACTERS)
        raise InputError(f"'{text}' can't be a name: Prefect allows none of {banned}", where=where)


@dataclass(frozen=True)
class Asked:
    """A deployment that somebody asks for.

    Attributes:
        name: Its name within the flow.
        flow: The flow.
        parameters: What its runs are called with unless they say otherwise.
        when: Its schedule.
        tags: Further tags.
        pool: The work pool; None: this process serves it.
        queue: The work queue of the pool.
        image: The image of a pool that starts containers.
        job_variables: For the pool's job template.
        at_once: How many runs of it may run at once; more wait.
        paused: Whether its schedule is created paused.
        version: Its version; default Hone's.
    """

    name: str
    flow: str = "accelerate"
    parameters: dict[str, Any] = field(default_factory=dict)
    when: When = When()
    tags: Sequence[str] = ()
    pool: str | None = None
    queue: str | None = None
    image: str | None = None
    job_variables: dict[str, Any] = field(default_factory=dict)
    at_once: int = 1
    paused: bool = False
    version: str | None = None


def build(asked: Asked) -> RunnerDeployment:
    """The deployment, not yet on a server.

    Raises:
        InputError: The flow, the schedule or the name is wrong.
    """
    flow = find_flow(asked.flow)
    require_name(asked.name, "--name")
    try:
        made = flow.to_deployment(
            name=asked.name,
            parameters=asked.parameters,
            schedule=asked.when.schedule(),
            paused=asked.paused,
            tags=["hone", *asked.tags],
            version=asked.version or __version__,
            work_pool_name=asked.pool,
            work_queue_name=asked.queue,
            job_variables=_job_variables(asked),
            concurrency_limit=ConcurrencyLimitConfig(
                limit=asked.at_once, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
            ),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(str(first["msg"]), where=".".join(map(str, first["loc"]))) from None
    return cast(RunnerDeployment, made)


def _job_variables(asked: Asked) -> dict[str, Any] | None:
    """What a worker starts its runs with: as asked, and often enough a sign of life."""
    if asked.pool is None:
        return asked.job_variables or None
    given = asked.job_variables.get("env") or {}
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT), **given}
    return {**asked.job_variables, "env": environment}


def deploy(asked: Asked) -> str:
    """Create or update the deployment on the configured server; returns its id.

    Raises:
        InputError: Something in it is wrong, or the server has no such work pool.
    """
    made = build(asked)
    if asked.pool is not None:
        require_pool(asked.pool, asked.queue)
    return str(made.apply(image=asked.image))


def require_pool(name: str, queue: str | None = None) -> None:
    """Refuse a work pool or queue that the server doesn't have.

    Raises:
        InputError: It doesn't.
    """
    require_name(name, "--pool")
    if queue is not None:
        require_name(queue, "--queue")
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            pools = [pool.name for pool in client.read_work_pools()]
            raise InputError(
                f"the Prefect server has no work pool '{name}'"
                + (f": {did_you_mean(name, pools)}" if pools else ""),
                where="--pool",
                do=f"prefect work-pool create {name} --type process",
            ) from None
        if queue is not None:
            try:
                client.read_work_queue_by_name(queue, work_pool_name=name)
            except ObjectNotFound:
                raise InputError(
                    f"the work pool '{name}' has no queue '{queue}'",
                    where="--queue",
                    do=f"prefect work-queue create {queue} --pool {name}",
                ) from None


def serve_all(deployments: Sequence[Asked], limit: int) -> None:
    """Serve deployments from this process until it is ended.

    Args:
        deployments: What to serve.
        limit: How many runs may run at once.
    """
    from prefect import serve

    serve(*(build(asked) for asked in deployments), limit=limit, print_starting_message=False)
