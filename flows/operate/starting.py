"""Start a deployment once, however often and by whom it is asked for.

A start has a key, and Prefect's database has at most one flow run with a key. The keys of a rule's
earlier starts can be asked for, so two machines without a common disk count them alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from ...recipe.errors import AccessRefused, InputError, ServerUnreachable, did_you_mean
from .rules import Rule

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """A flow run to start.

    Attributes:
        deployment: FLOW/NAME.
        parameters: Of the flow run.
        key: At most one flow run has it.
        subject: What it is about; all starts for the same alias of the same model by the same rule
            have the same.
        name: Of the flow run.
    """

    deployment: str
    parameters: dict[str, Any]
    key: str
    subject: str
    name: str

    @property
    def tag(self) -> str:
        return subject_tag(self.subject)


class Starter(Protocol):
    """What starts deployments."""

    def keys(self, deployment: str, subject: str) -> Sequence[str]:
        """Keys of the flow runs that were started for a subject."""
        ...

    def start(self, start: Start) -> str:
        """Start a flow run, unless one with this key was; returns its id."""
        ...


def subject_tag(subject: str) -> str:
    return f"hone-event:{subject[:24]}"


@dataclass
class Known:
    """A deployment on the server: its id, and the parameters that it takes."""

    id: UUID
    takes: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    has: frozenset[str] = frozenset()


@dataclass
class PrefectStarter:
    """Starts deployments on the configured Prefect server."""

    known: dict[str, Known] = field(default_factory=dict)

    def keys(self, deployment: str, subject: str) -> Sequence[str]:
        """Keys of the flow runs that were started for a subject, the newest first.

        Raises:
            InputError: There is no such deployment.
            ServerUnreachable: The server does not answer.
        """

        def ask(client: SyncPrefectClient, known: Known) -> list[str]:
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[subject_tag(subject)])),
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[known.id])),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=50,
            )
            return [run.idempotency_key for run in runs if run.idempotency_key]

        return self._with(deployment, ask)

    def start(self, start: Start) -> str:
        """Start a flow run, unless one with this key was; returns its id.

        Raises:
            InputError: There is no such deployment, or it does not take these parameters.
            ServerUnreachable: The server does not answer.
        """

        def ask(client: SyncPrefectClient, known: Known) -> str:
            run = client.create_flow_run_from_deployment(
                known.id,
                parameters=start.parameters,
                name=start.name,
                tags=["hone", "hone-event", start.tag],
                idempotency_key=start.key,
            )
            return str(run.id)

        return self._with(start.deployment, ask)

    def check(self, rules: Sequence[Rule]) -> None:
        """Refuse rules that could not start anything now.

        Raises:
            InputError: A deployment is missing, or does not take the parameters of its rule.
            ServerUnreachable: The server does not answer.
        """
        for rule in rules:
            known = self._with(rule.run, lambda _, known: known, rule.where)
            given = set(rule.parameters)
            for name in sorted(given - known.takes):
                raise InputError(
                    f"the deployment '{rule.run}' has no parameter '{name}': "
                    f"{did_you_mean(name, known.takes)}",
                    where=rule.where,
                )
            missing = sorted(known.requires - known.has - given)
            if missing:
                raise InputError(
                    f"the deployment '{rule.run}' needs the parameter {', '.join(missing)}",
                    where=rule.where,
                    do="give it under the rule's `parameters`",
                )

    def _with(
        self,
        deployment: str,
        ask: Callable[[SyncPrefectClient, Known], T],
        where: str = "the rule's deployment",
    ) -> T:
        """Ask the server about a deployment; one that was made anew has another id."""
        with _answering(deployment), get_client(sync_client=True) as client:
            known = self.known.get(deployment)
            if known is not None:
                try:
                    return ask(client, known)
                except ObjectNotFound:
                    pass
                except PrefectHTTPStatusError as error:
                    if error.response.status_code != httpx.codes.NOT_FOUND:
                        raise
            known = self.known[deployment] = _find(client, deployment, where)
            return ask(client, known)


def _find(client: SyncPrefectClient, name: str, where: str) -> Known:
    try:
        found = client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError):
        flows = {flow.id: flow.name for flow in client.read_flows()}
        there = [f"{flows.get(d.flow_id)}/{d.name}" for d in client.read_deployments()]
        raise InputError(
            f"there is no deployment '{name}': {did_you_mean(name, there)}",
            where=where,
            do="make it with `hone serve` or `hone deploy`, or name another under `run`",
        ) from None
    schema = found.parameter_openapi_schema or {}
    return Known(
        id=found.id,
        takes=frozenset(schema.get("properties") or {}),
        requires=frozenset(schema.get("required") or ()),
        has=frozenset(found.parameters or {}),
    )


@contextlib.contextmanager
def _answering(deployment: str) -> Iterator[None]:
    """What the server answers, as Hone's errors."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            raise ServerUnreachable(
                f"the Prefect server can't answer now (HTTP {status})",
                where="PREFECT_API_URL",
            ) from error
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise AccessRefused(
                "the Prefect server refuses access",
                where="PREFECT_API_URL",
                do="set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY)",
            ) from error
        raise InputError(
            f"the Prefect server refuses the flow run: {_detail(error.response)}",
            where=f"deployment {deployment}",
            do="correct the rule's parameters, or the deployment",
        ) from error
    except httpx.TransportError as error:
        raise ServerUnreachable(
            "the Prefect server does not answer",
            where="PREFECT_API_URL",
            do="see whether it runs",
        ) from error


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail"))[:300]
    except (ValueError, AttributeError):
        return f"HTTP {response.status_code}"
