"""A flow run as a RayJob, against an API server that answers as Kubernetes' does."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_hone.flows.operate.ray_job import Cluster, Refused, read_job, run_job
from prefect_hone.recipe.errors import InputError

INFRA = Path(__file__).parents[3] / "infra" / "kubernetes"
RUN = {"PREFECT__FLOW_RUN_ID": "5f6e", "PREFECT_API_URL": "http://prefect:4200/api",
       "HONE_SERVERS_BLOCK": "team", "AWS_SECRET_ACCESS_KEY": "canary", "LD_PRELOAD": "x.so"}  # fmt: skip


class Api:
    """RayJobs by name; each gets the next of the states whenever somebody looks."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict] = {}
        self.states = ["", "Initializing", "Running", "Complete"]
        self.deleted: list[str] = []
        self.refuse = 0
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, code: int, body: dict) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = job["metadata"]["name"]
                assert self.headers["Authorization"] == "Bearer the-token"
                assert self.path == "/apis/ray.io/v1/namespaces/hone/rayjobs"
                if api.refuse:
                    self.answer(api.refuse, {"message": "rayjobs is forbidden"})
                elif name in api.jobs:
                    self.answer(409, {"message": "exists"})
                else:
                    api.jobs[name] = job
                    self.answer(201, job)

            def do_GET(self) -> None:
                state = api.states.pop(0) if len(api.states) > 1 else api.states[0]
                self.answer(200, {"status": {"jobDeploymentStatus": state, "message": "why"}})

            def do_DELETE(self) -> None:
                api.deleted.append(self.path.rpartition("/")[2])
                self.answer(200, {})

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.cluster = Cluster(f"http://127.0.0.1:{self.server.server_port}", "hone", "the-token")


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_run_gives_its_job_its_own_variables_and_no_others() -> None:
    job = read_job(INFRA / "rayjob.yaml", RUN)
    assert job["metadata"]["name"] == "hone-5f6e"
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    given = {entry["name"]: entry.get("value") for entry in head["env"]}
    assert given["PREFECT__FLOW_RUN_ID"] == "5f6e"
    assert given["HONE_SERVERS_BLOCK"] == "team"
    assert not {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"} & set(given)
    assert "canary" not in json.dumps(job)


@pytest.mark.parametrize(("last", "status"), [("Complete", 0), ("Failed", 1)])
def test_the_job_is_waited_for(api: Api, last: str, status: int, capsys) -> None:
    api.states[-1] = last
    job = read_job(INFRA / "rayjob.yaml", RUN)
    assert run_job(api.cluster, job, every=0.01) == status
    assert list(api.jobs) == ["hone-5f6e"]
    assert f"RayJob hone-5f6e: {last} why" in capsys.readouterr().out
    assert run_job(api.cluster, job, every=0.01) == status, "a pod that starts again waits for it"


def test_a_refusal_is_told(api: Api) -> None:
    api.refuse = 403
    with pytest.raises(Refused, match="rayjobs is forbidden"):
        run_job(api.cluster, read_job(INFRA / "rayjob.yaml", RUN))


def test_a_cancelled_run_takes_its_job_away(api: Api) -> None:
    api.states = ["Running"]
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from prefect_hone.flows.operate import ray_job as r\n"
        "signal.signal(signal.SIGTERM, r._end)\n"
        f"job = r.read_job(Path({str(INFRA / 'rayjob.yaml')!r}), {RUN!r})\n"
        f"cluster = r.Cluster({api.cluster.url!r}, 'hone', 'the-token')\n"
        "sys.exit(r.run_job(cluster, job, every=0.05))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    deadline = time.monotonic() + 30
    while not api.jobs and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 130
    assert api.deleted == ["hone-5f6e"]


def test_outside_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match="in a pod"):
        Cluster.of_this_pod(tmp_path)
    with pytest.raises(InputError, match="no RayJob"):
        read_job(INFRA / "raycluster.yaml", RUN)
