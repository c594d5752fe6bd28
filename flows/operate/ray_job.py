"""A flow run as a RayJob of KubeRay: what the pods of the Kubernetes work pool run.

Prefect's Kubernetes worker creates Jobs only. So its pod asks the cluster for the RayJob, which
brings a Ray cluster of its own, waits for its end, and takes it away if the flow run is cancelled:

    python -P -m prefect_hone.flows.operate.ray_job /etc/hone/rayjob.yaml

The RayJob is a file of the cluster's operator; a flow run gives it only the variables of `_PASSED`.
Secrets come to its pods from Kubernetes' own Secrets.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ...recipe.errors import HoneError, InputError, ServerUnreachable
from ..prefect_private import FLOW_ENTRYPOINT, FLOW_RUN_ID

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: What Prefect's worker tells a flow run, and what a deployment may set.
_PASSED = re.compile(
    rf"^({FLOW_RUN_ID}|{FLOW_ENTRYPOINT}|PREFECT_API_URL|PREFECT_WORKER_\w+|"
    r"PREFECT_FLOWS_HEARTBEAT_FREQUENCY|PREFECT_LOGGING_LEVEL|HONE_SERVERS_BLOCK)$"
)
_ENDS = {"Complete": 0, "Failed": 1}
_SECONDS = 5.0
_TRIES = 24  # two minutes without the API server


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API server, as a pod reaches it.

    Attributes:
        url: Its address.
        namespace: The pod's.
        token: The pod's.
        authority: A file with the certificate authority; None: the system's.
    """

    url: str
    namespace: str
    token: str
    authority: Path | None = None

    @staticmethod
    def of_this_pod(account: Path = _ACCOUNT) -> Cluster:
        """The cluster that this pod runs in.

        Raises:
            InputError: This is no pod, or it has no service account.
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        try:
            namespace = (account / "namespace").read_text().strip()
            token = (account / "token").read_text().strip()
        except OSError:
            host = None
        if not host:
            raise InputError(
                "this runs in a pod with a service account only",
                where=str(account),
                do="use the work pool of infra/kubernetes/",
            )
        port = os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
        return Cluster(f"https://{host}:{port}", namespace, token, account / "ca.crt")

    def ask(self, method: str, name: str = "", body: Any = None) -> dict[str, Any]:
        """A request about RayJobs.

        Raises:
            ServerUnreachable: The API server does not answer.
            HoneError: It refuses.
        """
        url = f"{self.url}/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs"
        request = urllib.request.Request(  # noqa: S310
            f"{url}/{name}" if name else url,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        context = None
        if self.authority is not None:
            context = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            with contextlib.suppress(ValueError, OSError):
                said = json.loads(error.read())
                raise Refused(f"Kubernetes refuses: {said.get('message', said)}",
                              error.code) from None  # fmt: skip
            raise Refused(f"Kubernetes refuses: {error}", error.code) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(
                f"Kubernetes' API does not answer: {error}", where=self.url
            ) from None


class Refused(HoneError):
    """Kubernetes refuses a request."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what, where="RayJob")
        self.code = code


def read_job(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The RayJob of a file, with the flow run's variables in its head's container.

    Raises:
        InputError: It is none.
    """
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        run = environment[FLOW_RUN_ID]
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        if job["kind"] != "RayJob":
            raise TypeError(f"a {job['kind']}")
    except KeyError as error:
        if error.args == (FLOW_RUN_ID,):
            raise InputError("a Prefect worker starts this", where=str(error.args[0])) from None
        raise InputError(f"it is no RayJob: {error} is missing", where=str(path)) from None
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise InputError(f"it is no RayJob: {error}", where=str(path)) from None
    passed = {name: value for name, value in environment.items() if _PASSED.match(name)}
    given = [entry for entry in head.get("env", []) if entry["name"] not in passed]
    head["env"] = [*given, *({"name": n, "value": v} for n, v in sorted(passed.items()))]
    job["metadata"] = {
        **job.get("metadata", {}),
        "name": f"hone-{run}",
        "labels": {**job.get("metadata", {}).get("labels", {}), "prefect.io/flow-run-id": run},
    }
    job["metadata"].pop("namespace", None)
    return dict(job)


def run_job(cluster: Cluster, job: Mapping[str, Any], every: float = _SECONDS) -> int:
    """Create a RayJob, wait for its end, and return the exit status that tells of it.

    One that is there already is waited for: Kubernetes may start this pod again.

    Raises:
        HoneError: Kubernetes refuses it, or stays away.
    """
    name = str(job["metadata"]["name"])
    try:
        cluster.ask("POST", body=job)
    except Refused as error:
        if error.code != http.client.CONFLICT:
            raise
    away = 0
    try:
        while True:
            try:
                status = cluster.ask("GET", name).get("status") or {}
                away = 0
            except ServerUnreachable:
                away += 1
                if away > _TRIES:
                    raise
                status = {}
            state = str(status.get("jobDeploymentStatus", ""))
            if state in _ENDS:
                message = status.get("message") or status.get("jobStatus") or ""
                sys.stdout.write(f"RayJob {name}: {state} {message}\n")
                return _ENDS[state]
            time.sleep(every)
    except _Ended:
        cluster.ask("DELETE", name)
        sys.stdout.write(f"RayJob {name}: deleted, because the flow run was cancelled\n")
        return 130


class _Ended(Exception):
    """Kubernetes ends this pod: the flow run was cancelled."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _end)
    try:
        return run_job(Cluster.of_this_pod(), read_job(Path(arguments[0]), os.environ))
    except HoneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
