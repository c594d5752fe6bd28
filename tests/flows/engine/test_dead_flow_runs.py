"""A killed run does not stay Running in Prefect; a living one, or another machine's, is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect_hone.flows.engine.dead_flow_runs import end_dead_flow_runs
from prefect_hone.tasks.tracking import names
from prefect_hone.tasks.tracking.liveness import this_process


class Client:
    """Stands for Prefect's: three flow runs of processes, and one whose label says nothing."""

    def __init__(self) -> None:
        here = this_process()
        gone, far = (
            here.model_copy(update={"ticks": 1}),
            here.model_copy(update={"boot": "b", "machine": "m"}),
        )
        self.labels = {
            "alive": {names.OWNER: here.model_dump_json()},
            "gone": {names.OWNER: gone.model_dump_json()},
            "far": {names.OWNER: far.model_dump_json()},
            "odd": {names.OWNER: "{"},
            "number": {names.OWNER: 3},
            "none": None,
        }
        self.ids = {name: uuid4() for name in self.labels}
        self.ended: list[object] = []

    def read_flow_runs(self, **_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(id=self.ids[n], labels=held) for n, held in self.labels.items()]

    def read_task_runs(self, **_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(id="task")]

    def set_flow_run_state(self, run_id: object, state: object, force: bool) -> None:
        assert state.type.value == "CRASHED"
        self.ended.append(run_id)

    def set_task_run_state(self, run_id: object, state: object, force: bool) -> None:
        self.ended.append(run_id)


def test_only_runs_of_processes_that_are_gone_are_ended() -> None:
    client = Client()
    assert end_dead_flow_runs(client) == 1
    assert client.ended == ["task", client.ids["gone"]]


@pytest.mark.slow
def test_a_killed_process_on_a_real_server(databases: Path, tmp_path: Path) -> None:
    shutil.copyfile(databases / "prefect.db", tmp_path / "prefect.db")
    code = (
        "import os, sys, time; from pathlib import Path; from uuid import UUID\n"
        "from prefect_hone.flows.cli.prefect_server import PrefectServer\n"
        "server = PrefectServer(Path(sys.argv[1]) / 'log'); server.prepare()\n"
        "server.serve(); server.wait()\n"
        "from prefect import flow, get_client; from prefect.runtime import flow_run\n"
        "from prefect_hone.flows.engine.dead_flow_runs import end_dead_flow_runs, name_owner\n"
        "@flow\n"
        "def f():\n"
        "    with get_client(sync_client=True) as client:\n"
        "        run = UUID(flow_run.id)\n"
        "        client.update_flow_run(run, tags=['hone'])\n"
        "        name_owner(client, run)\n"
        "        if sys.argv[2] == 'die': os.kill(os.getpid(), 9)\n"
        "        assert end_dead_flow_runs(client) == 1\n"
        "        states = sorted(r.state_name for r in client.read_flow_runs())\n"
        "        assert states == ['Crashed', 'Running'], states\n"
        "f()\n"
        "server.close()\n"
    )
    clean = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/prefect.db",
    }
    clean.pop("PREFECT_API_URL", None)
    for what, status in (("die", -9), ("look", 0)):
        command = [sys.executable, "-c", code, str(tmp_path), what]
        done = subprocess.run(
            command, env=clean, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status, done.stderr
        time.sleep(1)
