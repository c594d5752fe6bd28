"""An embedded store is created by one process at a time, and another version's is told as such."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.recipe.errors import HoneError, ServerUnreachable
from prefect_hone.tasks.tracking import first_opening
from prefect_hone.tasks.tracking.first_opening import alone
from prefect_hone.tasks.tracking.sender import MlflowSender
from prefect_hone.tasks.tracking.tracker import Tracker

from ...support.logged_models import store


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, pytest.param(5, marks=pytest.mark.nightly)])
def test_two_first_runs_at_once(tmp_path: Path, turns: int) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from prefect_hone.tasks.tracking.tracker import Tracker\n"
        "home = Path(sys.argv[1])\n"
        "t = Tracker(f'sqlite:///{home}/mlflow.db', str(home / 'artifacts'), 'exp', home / 'j')\n"
        "t.open('run', {}); assert t.close('FINISHED'); assert not t.problems, t.problems\n"
    )
    for turn in range(turns):
        home = tmp_path / str(turn)
        home.mkdir()
        command = [sys.executable, "-c", code, str(home)]
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        for process in both:
            _, said = process.communicate(timeout=480)
            assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("revision", "said"),
    [("ffff00001111", "the database is of a newer MLflow (schema ffff00001111"),
     ("0a8213491aaa", "the database is of an older MLflow (schema 0a8213491aaa")],
)  # fmt: skip
def test_another_mlflows_database(
    databases: Path, tmp_path: Path, revision: str, said: str
) -> None:
    uri = store(databases, tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = ?", (revision,))
    with pytest.raises(HoneError) as caught:
        Tracker(uri, str(tmp_path / "artifacts"), "exp", tmp_path / "journal").open("run", {})
    assert said in str(caught.value)
    assert not isinstance(caught.value, ServerUnreachable)
    assert "does not answer" not in str(caught.value)


def test_a_lock_that_stays_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_opening, "_PATIENCE", 0.1)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with alone(uri), pytest.raises(ServerUnreachable, match="another process"), alone(uri):
        pass


def test_a_link_in_its_place_is_not_followed(databases: Path, tmp_path: Path) -> None:
    uri = store(databases, tmp_path / "home")
    precious = tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / "home" / "mlflow.db.lock").symlink_to(precious)
    MlflowSender(uri, str(tmp_path / "artifacts"), "exp").connect()
    assert precious.read_text() == "x"


def test_a_server_has_no_lock() -> None:
    with alone("http://127.0.0.1:9"):
        pass
