"""The Ray cluster of a flow: joined if `RAY_ADDRESS` names one, else started here.

Starting takes seconds, so it happens in a thread, in parallel with other work. The thread lives as
long as the cluster: Linux ends Ray's processes when the *thread* that started them ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ..recipe.errors import HoneError, InputError, ServerUnreachable
from ..recipe.library_messages import telling
from . import access, ray_private, ray_start, ray_watch
from .importing import importing_alone
from .scratch import sweep

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # 2.0 by default: seconds at the end of a fit
    "RAY_DEDUP_LOGS": "0",
    # Else SIGTERM prints a C++ stack and aborts, for the seconds in which the core worker starts.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}


#: Settings of a cluster that Hone starts.
LOCAL = {
    # Steps reuse a warm worker: its imports take longer than most steps.
    "idle_worker_killing_time_threshold_ms": 600_000,
    # Ray's default is 15: everything else on the machine would take precedence over training and
    # over what is being timed.
    "worker_niceness": 0,
    # Ray's default is 30 s, after which the raylet ends: on a busy machine Python takes longer.
    "agent_register_timeout_ms": 300_000,
}


_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
_PATIENCE = 1.5  # s that `close` waits for a start
_SHUTDOWN = 15.0  # s for Ray's own end
_LOOK = 2.0  # s between two looks at the processes of a cluster that was started here


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cluster:
    """A connection to Ray, started on demand.

    Args:
        address: A cluster to join; None starts one on this machine.
        start_timeout: Longest wait for it (s).
        runtime: Ray's runtime environment of the workers on a cluster that is joined.
        logs: Where the end of Ray's logs is kept if a start fails; None: nowhere.

    Attributes:
        abandoned: It was closed while it was starting, and its thread is still in Ray's code, which
            may abort the process.
    """

    def __init__(
        self,
        address: str | None = None,
        start_timeout: float = 240,
        runtime: Mapping[str, Any] | None = None,
        logs: Path | None = None,
    ) -> None:
        self.address = address
        self.logs = logs
        self.runtime = dict(runtime or {})
        self.start_timeout = start_timeout
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._connecting = threading.RLock()  # while Ray's core worker starts
        self._channel: Any = None
        self._owned = False
        self._token = contextlib.ExitStack()
        self._watch: ray_start.Watch | None = None
        self._heads: dict[str, psutil.Process] = {}
        self._gone: HoneError | None = None
        self.cancelled = threading.Event()
        self.abandoned = False

    def prepare(self) -> None:
        """Start in the background."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._hold, name="hone-ray", daemon=True)
                self._thread.start()

    def start(self) -> None:
        """Wait until the cluster is ready.

        Raises:
            ServerUnreachable: `RAY_ADDRESS` does not answer.
            AccessRefused: The cluster requires a token that is missing, or rejects it.
            HoneError: Ray can't be started here, or the cluster can't be joined.
        """
        self.prepare()
        deadline = time.monotonic() + self.start_timeout
        while not self._ready.wait(0.1):
            if self.cancelled.is_set():
                raise HoneError("the run was interrupted")
            if time.monotonic() > deadline:
                kept = None if self._watch is None else self._watch.keep()
                raise ServerUnreachable(
                    f"Ray did not start within {self.start_timeout:.0f} s",
                    where=self.address or ("this machine" if kept is None else str(kept)),
                    do=None if kept is None else ray_watch.what_to_do(kept),
                )
        if isinstance(self._error, HoneError):
            raise self._error
        if self._error is not None:
            said = telling(self._error)
            if self.address is not None:
                raise HoneError(
                    f"the Ray cluster can't be joined: {said}",
                    where=f"RAY_ADDRESS={self.address}",
                    do="give HOST:PORT, as `ray start --head` printed it",
                ) from self._error
            raise HoneError(f"Ray can't be started here: {said}") from self._error

    def cancel(self) -> None:
        """Stop waiting for steps, in every thread."""
        self.cancelled.set()

    def gone(self) -> HoneError | None:
        """Why a cluster that was started here can't be used any more; None: it can."""
        with self._lock:
            if self._gone is None and not self._stop.is_set():  # else they are being ended
                for name, head in self._heads.items():
                    if not _is_alive(head):
                        self._gone = ray_start.head_ended(name, self._watch)
                        break
            return self._gone

    def close(self) -> None:
        """Stop what was started here; leave a joined cluster as it is.

        A cluster that is still starting is not waited for: its processes are ended.
        """
        if self._thread is None:
            return
        ready = self._ready.wait(_PATIENCE)
        started_here = self.address is None and (self._owned or not ready)
        ours = ray_private.own_processes() if started_here else []
        if started_here and not ready:
            ready = self._stop_connecting()
        gone = self.gone()
        self._stop.set()
        if gone is not None:
            self.abandoned = True  # Ray ends this process once it has looked for its GCS for 60 s
        elif ready:
            self._thread.join(_SHUTDOWN)
        elif started_here:
            if self._watch is not None:
                self._watch.close()
            self._thread.join(0.1)
            self.abandoned = self._thread.is_alive()
            ours = ray_private.own_processes()
        _end(ours)
        if started_here:
            sweep()  # the folders of workers, which don't remove them themselves
        self._thread = None

    def _stop_connecting(self) -> bool:
        """Let the core worker not start any more, or wait for it; whether the cluster is ready.

        A core worker whose GCS is ended waits 60 s for it, and then ends this process without the
        sentence that the run is about to say.
        """
        if self._connecting.acquire(blocking=False):
            self._stop.set()
            self._connecting.release()
            return False
        with self._connecting:
            pass
        return self._ready.wait(_SHUTDOWN)

    @property
    def channel(self) -> Any:
        """The actor through which running steps send their events."""
        self.start()
        return self._channel

    def capacity(self) -> Capacity:
        """CPUs and GPUs of the whole cluster, and of its largest nodes."""
        return capacity_of(self._nodes())

    def whole_node(self, cpus: float, gpus: float) -> float:
        """CPUs that a step reserves to be alone on a node: all of the largest one that fits.

        Args:
            cpus: What it reserves on a cluster that is started here, and where no node fits: the
                cluster may be about to grow.
            gpus: GPUs that it needs.
        """
        if self.address is None:
            return cpus
        fit = [n["CPU"] for n in self._nodes() if n.get("CPU", 0) > 0 and n.get("GPU", 0) >= gpus]
        return float(max(fit, default=cpus))

    def _nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive, under Ray's names."""
        self.start()
        if (gone := self.gone()) is not None:
            raise gone
        import ray  # only now: an import that fails there leaves parts, which fail here otherwise

        return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]

    def memory(self) -> int:
        """Memory of the whole cluster that steps may use (bytes)."""
        self.start()
        import ray

        return int(ray.cluster_resources().get("memory", 0))

    def _hold(self) -> None:
        try:
            self._init()
        except BaseException as error:
            self._error = error
            self._token.close()
            self._ready.set()
            return
        self._ready.set()
        while not self._stop.wait(_LOOK):
            if self.gone() is not None:
                self.cancel()
        import ray

        if self.gone() is not None:
            self._token.close()
        elif self._owned:
            ray.shutdown()
            self._token.close()
        else:
            ray.kill(self._channel)

    def _init(self) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        with importing_alone():
            import ray

            from .channel import open_channel

        with ray_private.python_keeps_its_signals():
            self._connect(ray)
        self._channel = open_channel()
        if self._owned and self.address is None:
            self._heads = ray_private.head_processes()
            ray.remote(num_cpus=0, max_retries=0)(_import_torch).remote()

    def _not_closed(self) -> None:
        if self._stop.is_set():
            raise HoneError("the run was interrupted")

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        if self.address is None:
            ray_start.start_here(self._start_here, self._token, self.logs)
        else:
            way = access.probe(self.address)
            self._token.enter_context(way.opened())
            ray_start.join(lambda watch: self._join(ray, way.address, watch), self.address)
        ray_private.silence_lost_workers()
        self._owned = True

    def _start_here(self, watch: ray_start.Watch, folder: Path) -> None:
        """Start a cluster with a private folder: Ray makes its own writable for everybody."""
        self._not_closed()
        self._watch = watch
        with contextlib.ExitStack() as connecting:
            ray_private.start(
                LOCAL,
                job_config=ray_private.own_path(lambda: self._begin(watch, connecting)),
                _node_ip_address="127.0.0.1",  # nothing else on the network reaches it
                _temp_dir=str(folder),
                num_cpus=cores(),
                include_dashboard=False,
                object_store_memory=256 * 2**20,
                **_SILENT,
            )

    def _begin(self, watch: ray_start.Watch, connecting: contextlib.ExitStack) -> None:
        """Before the core worker starts; `connecting` is closed when it has."""
        watch.begin()
        connecting.enter_context(self._connecting)
        self._not_closed()

    def _join(self, ray: Any, address: str, watch: ray_start.Watch) -> None:
        self._watch = watch
        ray.init(
            address=address,
            runtime_env=self.runtime or None,
            job_config=ray_private.own_path(watch.begin),
            **_SILENT,
        )


def _import_torch() -> None:
    """Make a worker ready for the first step, while Prefect and MLflow are still starting."""
    gc.disable()  # what is imported stays: looking for garbage in it takes a tenth of the time
    try:
        from .data import splits  # noqa: F401
        from .model import module  # noqa: F401
        from .training import estimate, losses, probe  # noqa: F401
        from .training.parallel import parallelize  # noqa: F401
    finally:
        gc.enable()  # and not frozen: `kept_models` asks for referrers, which frozen ones are not


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(processes: list[psutil.Process]) -> None:
    """End processes that outlived their cluster: Ray's agents may take a minute to notice."""
    for process in processes:
        with contextlib.suppress(psutil.Error):  # psutil compares start times: an id may be reused
            process.kill()
    psutil.wait_procs(processes, timeout=3)


def end_own_processes() -> None:
    """End all of Ray's processes that this process started, whatever state they are in."""
    _end(ray_private.own_processes())


class Capacity(NamedTuple):
    """CPUs and GPUs of a whole cluster, and the most that one of its nodes has."""

    cpus: float
    gpus: float
    node_cpus: float
    node_gpus: float


def capacity_of(nodes: Sequence[Mapping[str, float]]) -> Capacity:
    """The capacity of nodes with these resources, under Ray's names."""
    cpus, gpus = ([float(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
    return Capacity(sum(cpus), sum(gpus), max(cpus, default=0.0), max(gpus, default=0.0))


def local_capacity() -> Capacity:
    """What a cluster started on this machine would have."""
    return capacity_of([{"CPU": cores(), "GPU": len(list(Path("/dev").glob("nvidia[0-9]*")))}])


def require_capacity(capacity: Capacity, workers: int, cpus: float, gpus: float) -> None:
    """Refuse a request that exceeds the cluster, before anything waits for it.

    Raises:
        InputError: With what is requested and what is available.
    """
    for name, each, has, node in (
        ("cpus", cpus, capacity.cpus, capacity.node_cpus),
        ("gpus", gpus, capacity.gpus, capacity.node_gpus),
    ):
        kind, needs = name[:-1].upper(), workers * each
        if needs > has + 1e-9:
            raise InputError(
                f"{workers} workers with {each:g} {kind} each need {needs:g} {kind}s, and the "
                f"cluster has {has:g}",
                where="train.mesh, train.resources",
                do=f"lower mesh.data or resources.{name}, or join a larger cluster (RAY_ADDRESS)",
            )
        if each > node + 1e-9:
            raise InputError(
                f"a worker needs {each:g} {kind}s, and the largest node of the cluster has "
                f"{node:g}",
                where=f"train.resources.{name}",
                do=f"lower resources.{name}, or join a cluster with larger nodes (RAY_ADDRESS)",
            )
