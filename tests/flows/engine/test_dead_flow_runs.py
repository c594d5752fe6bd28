"""A killed run does not stay Running in Prefect; a living one, or another machine's, is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prefect_hone.flows.engine import dead_flow_runs
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


def test_a_flow_run_that_another_process_tries_again_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = SimpleNamespace(id=uuid4(), tags=["wine"], labels={})
    monkeypatch.setattr(
        dead_flow_runs, "FlowRunContext", SimpleNamespace(get=lambda: SimpleNamespace(flow_run=run))
    )
    here = this_process().model_dump_json()
    for before, expected in ((None, [here]), ("another", [here]), (here, [])):
        client, named = MagicMock(), []
        client.__enter__.return_value = client
        run.labels = {names.OWNER: before}
        client.update_flow_run_labels = lambda _, labels, n=named: n.append(labels[names.OWNER])
        monkeypatch.setattr(dead_flow_runs, "get_client", lambda c=client, **_: c)
        dead_flow_runs.claim_flow_run()
        assert named == expected


@pytest.mark.slow
@pytest.mark.nightly
def test_a_killed_process_on_a_real_server(databases: Path, tmp_path: Path) -> None:
    """Killed in its first line, with another flow run that was not Running yet."""
    shutil.copyfile(databases / "prefect.db", tmp_path / "prefect.db")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from prefect_hone.flows.cli.prefect_server import PrefectServer\n"
        "server = PrefectServer(Path(sys.argv[1]) / 'log'); server.prepare()\n"
        "server.serve(); server.wait()\n"
        "from prefect import flow, get_client\n"
        "from prefect_hone.flows.engine import dead_flow_runs\n"
        "@flow\n"
        "def f(how):\n"
        "    if how == 'die': os.kill(os.getpid(), 9)\n"
        "    with get_client(sync_client=True) as client:\n"
        "        assert dead_flow_runs.end_dead_flow_runs(client) == 2\n"
        "        states = sorted(r.state_name for r in client.read_flow_runs())\n"
        "        assert states == ['Crashed', 'Crashed', 'Running'], states\n"
        "    return 3\n"
        "run_flow = dead_flow_runs.run_flow\n"
        "if sys.argv[2] == 'die':\n"
        "    dead_flow_runs.run_flow = lambda *_, **__: None\n"
        "    dead_flow_runs.run_as_own(f, 'wine', {'how': 'never'})\n"
        "    dead_flow_runs.run_flow = run_flow\n"
        "state = dead_flow_runs.run_as_own(f, 'wine', {'how': sys.argv[2]})\n"
        "assert state.result() == 3\n"
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
