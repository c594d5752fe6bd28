"""Flow runs in Prefect whose process was killed: they are ended as Crashed, not left Running.

A flow run carries its owner as a label. Only a process of this machine can be judged, because a
flow run has no heartbeat; those of a team's workers need an automation on the server.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.states import Crashed
from prefect.utilities.callables import get_call_parameters

from ...tasks.tracking import names
from ...tasks.tracking.liveness import is_gone, owner_in, this_process
from .events import run_recovered

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

#: Of every flow run of Hone.
HONE_TAG = "hone"
_UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_MOST = 200  # at once; the next run ends more


def name_owner(client: SyncPrefectClient, run: FlowRun) -> None:
    """Note which process a flow run belongs to, in Prefect and in the run that is given."""
    owner = this_process().model_dump_json()
    client.update_flow_run_labels(run.id, {names.OWNER: owner})
    run.labels[names.OWNER] = owner


def run_as_own(flow: Flow[..., Any], name: str, parameters: dict[str, Any]) -> State[Any]:
    """Call a flow in a flow run that carries its name and its owner before it is Running.

    Called as a function, a flow has a run that is Running before the flow can say whose it is:
    killed in between, it would stay so.

    Args:
        flow: A flow of Hone.
        name: Of the flow run, and a tag of it.
        parameters: Of the flow; what is missing has its default.
    """
    given = get_call_parameters(flow.fn, (), parameters)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(
            flow, name=name, parameters=flow.serialize_parameters(given), tags={HONE_TAG, name}
        )
        with contextlib.suppress(Exception):  # it is for others, not for this run
            name_owner(client, run)
    state = run_flow(flow, flow_run=run, parameters=given, return_type="state")
    return cast("State[Any]", state)  # the flows of Hone are functions, and no coroutines


def claim_flow_run() -> None:
    """Note which process the current flow run belongs to, if that is not noted.

    A flow run that a deployment's worker tries again belongs to another process than before.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    if run.labels.get(names.OWNER) == this_process().model_dump_json():
        return
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags={*run.tags, HONE_TAG})
        name_owner(client, run)


def end_dead_flow_runs(client: SyncPrefectClient) -> int:
    """End flow runs that are unfinished although their process is gone; returns how many."""
    ended = 0
    for run in client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[HONE_TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
        ),
        limit=_MOST,
    ):
        said = (run.labels or {}).get(names.OWNER)
        owner = owner_in(said) if isinstance(said, str) else None
        if owner is not None and is_gone(owner):
            _end(client, run.id)
            run_recovered(str(run.id))
            ended += 1
    return ended


def _end(client: SyncPrefectClient, run_id: UUID) -> None:
    crashed: State[object] = Crashed(message="its process was gone")
    for task in client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING]))
        ),
        limit=_MOST,
    ):
        client.set_task_run_state(task.id, crashed, force=True)
    client.set_flow_run_state(run_id, crashed, force=True)
