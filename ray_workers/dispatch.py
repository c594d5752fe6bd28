"""Send a step to a Ray worker, return its events, and explain what went wrong.

The worker fetches the input artifacts, runs the step's function, and stores its outputs before it
returns, so a returned result is complete.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, JsonValue, TypeAdapter

from ..recipe.errors import HoneError, StepCrashed, StepTimeout
from ..recipe.factories import Allowed, unexpected
from ..recipe.library_messages import telling
from ..recipe.showable import parted, restored, showable, showable_data
from ..recipe.strict import Strict
from .cluster import Cluster
from .data.turns import Shared
from .events import Begun, Event, Report
from .memory import PeakMemory
from .scratch import lasting_folder, private_caches
from .store.artifacts import Artifact, Store
from .user_warnings import told_warnings
from .worker_death import cause_of_death
from .workspace import Result, Workspace, user_code

F = TypeVar("F", bound=Strict)


class StepJob(Strict):
    """A step to run, in plain data.

    Attributes:
        function: Import path of the step's function.
        key: Cache key of the step.
        lineage: The same for every placement of the same work; names its checkpoints.
        spec: What it is asked to do.
        inputs: Its input artifacts.
        code: The recipe's code folder as an artifact.
        allowed: Factories that may be called.
        checkpoint_key: Signs the records of its checkpoints.
        secrets: Texts with credentials, by what stands for them in the spec.
        store: URL of the store.
        cache: Local folder for artifacts of a remote store.
        cpus: CPU cores that the worker reserves.
        gpus: GPUs that the worker reserves.
        timeout: Longest time that it may take (s).
        watch_memory: Whether to measure its peak memory.
    """

    function: str
    key: str
    lineage: str
    spec: dict[str, JsonValue]
    inputs: dict[str, Artifact]
    code: Artifact | None
    allowed: Allowed
    checkpoint_key: str = Field("", repr=False)
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    store: str
    cache: str
    cpus: float = 1
    gpus: float = 0
    timeout: float = 1800
    watch_memory: bool = False


class Done(Strict):
    """The result of a job: artifacts in the store, and what the step found out.

    Attributes:
        seconds: How long the step itself took (s).
        peak_memory: Peak memory of it and its processes (bytes); 0: not measured.
        run_id: The MLflow run that it was computed in, filled in when it is recorded.
    """

    outputs: dict[str, Artifact]
    metrics: dict[str, float]
    params: dict[str, Any]
    facts: dict[str, JsonValue]
    notes: list[str]
    seconds: float
    peak_memory: int = 0
    run_id: str = ""

    def facts_as(self, kind: type[F]) -> F:
        """Its facts, as the type that its step declares."""
        return kind.model_validate(self.facts)


def execute(job: StepJob, report: Report, shared: Shared | None = None) -> Done:
    """Run a job in this process.

    Args:
        job: The step.
        report: Receives its events.
        shared: The data that other steps of the run got from slow factories.

    Raises:
        HoneError: The step failed; an unexpected exception becomes a StepFailed with its place.
    """
    store = Store(job.store, Path(job.cache))
    parted(list(job.secrets.values()))  # so that no message of this process has them
    started = time.perf_counter()
    scratch = lasting_folder("step")
    try:
        inputs = {name: store.fetch(artifact) for name, artifact in job.inputs.items()}
        module, _, name = job.function.partition(":")
        function: Callable[[Workspace[Any]], Result] = getattr(
            importlib.import_module(module), name
        )
        workspace = Workspace(
            spec=_typed(restored(job.spec, job.secrets), function),
            inputs=inputs,
            scratch=scratch,
            report=report,
            allowed=job.allowed,
            store_url=job.store,
            cache_url=job.cache,
            checkpoint_key=job.checkpoint_key,
            key=job.key,
            lineage=job.lineage,
            code=job.code,
            cpus=job.cpus,
            shared=shared,
        )
        watch = PeakMemory() if job.watch_memory else contextlib.nullcontext()
        code = user_code(job.code, job.store, job.cache, job.allowed)
        with code, told_warnings(report, job.allowed), watch:
            result = function(workspace)
        outputs = {
            name: store.put(folder, kind) for name, (folder, kind) in workspace.outputs.items()
        }
    except HoneError:
        raise
    except (Exception, SystemExit) as error:  # which user code may call: sys.exit()
        raise _unexpected(error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Done(
        outputs=outputs,
        metrics=result.metrics,
        params=showable_data(result.params),
        facts=showable_data(result.facts.model_dump(mode="json")) if result.facts else {},
        notes=[showable(note) for note in result.notes],
        seconds=time.perf_counter() - started,
        peak_memory=watch.bytes if isinstance(watch, PeakMemory) else 0,
    )


def _typed(spec: dict[str, Any], function: Callable[..., Any]) -> Any:
    """A spec as the type in the step's `Workspace` annotation; unchanged if there is none.

    Raises:
        ValueError: The spec does not have that type's fields.
    """
    hints = typing.get_type_hints(function)
    wanted = next((typing.get_args(h) for n, h in hints.items() if n != "return"), ())
    return TypeAdapter(wanted[0]).validate_python(spec) if wanted else spec


def dispatch(job: StepJob, cluster: Cluster, report: Report) -> Done:
    """Run a job in a Ray worker and wait for it.

    Raises:
        HoneError: What the step raised.
        StepCrashed: The worker died; with the signal if it is known.
        StepTimeout: It took longer than the job allows.
    """
    cluster.start()
    import ray

    channel = cluster.channel
    remote = _remote_execute().options(num_cpus=job.cpus, num_gpus=job.gpus)
    reference = remote.remote(job.model_dump(mode="json"), channel)
    deadline = float("inf")  # begins when the worker does: others may hold the cores until then
    try:
        while True:
            ready, _ = ray.wait([reference], timeout=0.2)
            if _drain(channel, job.key, report):
                deadline = time.monotonic() + job.timeout
            if ready:
                answer = ray.get(reference)
                break
            if cluster.cancelled.is_set():
                raise cluster.gone() or HoneError("the run was interrupted")
            if time.monotonic() > deadline:
                raise StepTimeout(
                    f"it took longer than {job.timeout:g} s and was stopped",
                    do="raise `timeouts` in the recipe if it needs longer",
                )
    except ray.exceptions.RayTaskError as error:
        raise _unexpected(error.cause or error) from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise StepCrashed(f"the worker process died ({cause_of_death(error)})") from error
    except ray.exceptions.RayError as error:
        lost = StepCrashed(f"Ray lost the worker: {telling(error)}")
        raise cluster.gone() or lost from error
    finally:
        if cluster.gone() is None and not ray.wait([reference], timeout=0)[0]:
            ray.cancel(reference, force=True)
    if "error" in answer:
        raise HoneError.from_dict(answer["error"])
    return Done.model_validate(answer)


def _remote_execute() -> Any:
    import ray

    global _REMOTE
    if _REMOTE is None:
        _REMOTE = ray.remote(max_retries=0)(_execute_in_worker)
    return _REMOTE


_REMOTE: Any = None


def _execute_in_worker(fields: dict[str, Any], channel: Any) -> dict[str, Any]:
    from .channel import reporter
    from .data.shared_data import ThroughRay

    report = reporter(channel, fields["key"])
    report(Begun())
    private_caches()
    try:
        job = StepJob.model_validate(fields)
        return execute(job, report, ThroughRay(channel)).model_dump(mode="json")
    except HoneError as error:
        return {"error": error.to_dict()}


def _drain(channel: Any, key: str, report: Report) -> bool:
    """Pass events on; whether the worker has just begun."""
    import ray

    events: list[Event] = ray.get(channel.drain.remote(key))
    for event in events:
        if not isinstance(event, Begun):
            report(event)
    return any(isinstance(event, Begun) for event in events)


def _unexpected(error: BaseException) -> HoneError:
    if isinstance(error, HoneError):
        return error
    return unexpected(error)
