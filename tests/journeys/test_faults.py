"""Killed anywhere, interrupted, or diverged: a run goes on from there, and no MLflow run lies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import mlflow
import psutil
import pytest

pytestmark = pytest.mark.slow


def statuses(tracking: str, recipe: str = "wine") -> dict[str, list[str]]:
    """Statuses of all MLflow runs of a recipe, by name."""
    client = mlflow.MlflowClient(tracking)
    experiment = client.get_experiment_by_name(recipe)
    found: dict[str, list[str]] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=100):
        found.setdefault(run.info.run_name.split(" ")[0], []).append(run.info.status)
    return found


def wait_until_gone(hone, seconds: float = 120) -> None:
    """Until all that was started has ended; Ray's agents notice by themselves, after a minute."""

    def left() -> list[str]:
        names = []
        for process in hone.alive():
            with contextlib.suppress(psutil.Error):  # it ended just now
                names.append(" ".join(process.cmdline()[:4]))
        return [n for n in names if "ray::DashboardAgent" not in n and "RuntimeEnvAgent" not in n]

    deadline = time.monotonic() + seconds
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left()


@pytest.mark.parametrize(
    "first", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.nightly)]
)
def test_ended_at_any_moment_it_goes_on_from_there(
    hone, project: Path, tmp_path: Path, first: signal.Signals
) -> None:
    """While it trains by a signal, while it promotes by SIGKILL; then with nobody to read it."""
    recipe = [str(project / "recipe.yaml"), "--set", "data.args={delay: 0.01}",
              "--set", "train.epochs=6", "--set", "variants=[{name: fp32}]"]  # fmt: skip
    process = hone.start("run", *recipe)
    said = hone.wait_for(process, "train: epoch 3/6")
    process.send_signal(first)
    out, err = process.communicate(timeout=240)
    if first == signal.SIGTERM:
        assert process.returncode == 128 + first, err
        assert "hone: ended by SIGTERM" in err
        assert "Traceback" not in out + err, out + err
        _, left = psutil.wait_procs(hone.alive(), timeout=10)
        assert not left, "Ray's agents, too"
        found = statuses(hone.tracking)
        assert {status for runs in found.values() for status in runs} == {"KILLED"}
        assert flow_run_states(tmp_path) == ["Crashed"]
    wait_until_gone(hone)
    done = set(re.findall(r"s  (.+): done in", said + out))

    process = hone.start("run", *recipe)
    said = hone.wait_for(process, "deciding and promoting")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(hone)
    for label in done:
        assert f"{label}: cached" in said
    done |= set(re.findall(r"s  (.+): done in", said))
    # Ray ends the workers of a killed run by SIGTERM: they may save in mid-epoch.
    went_on = re.search(r"resuming after (?:step \d+ of )?epoch (\d) of 6", said)
    assert went_on, said
    assert int(went_on.group(1)) >= 2
    assert not re.search("epoch [12]/6", said), said

    process = hone.start("run", *recipe)
    last = hone.wait_for(process, "deciding and promoting")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()

    assert process.wait(240) == 0, err
    assert flow_run_states(tmp_path) == ["Crashed", "Crashed", "Completed"]
    assert "nobody reads the standard output any more; the run goes on" in err
    assert "the run goes on" in (hone.home / "logs" / "output.log").read_text()
    assert {"check", "train", "export", "benchmark"} <= done
    for label in done:
        assert f"{label}: cached" in last
    found = statuses(hone.tracking)
    assert "RUNNING" not in [status for runs in found.values() for status in runs]
    assert sorted(found["train"]) == [*["FINISHED"] * 2, "KILLED"]
    client = mlflow.MlflowClient(hone.tracking)
    trained = client.search_runs(
        [client.get_experiment_by_name("wine").experiment_id],
        "tags.mlflow.runName = 'train' AND attributes.status = 'FINISHED'",
    )
    (run,) = [run for run in trained if "hone.train_computed_in" not in run.data.tags]
    for name in ("train/loss", "validation/accuracy"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), f"{name} has two values for a step"
    curve = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert len(curve) == 6, "the curve of the continued run is whole"
    versions = client.search_model_versions("name = 'wine'")
    assert len(versions) == 1, "promoting twice makes one version"


def flow_run_states(folder: Path) -> list[str]:
    """The states of all flow runs in Prefect, the first first."""
    with contextlib.closing(sqlite3.connect(folder / "prefect" / "prefect.db")) as database:
        found = database.execute("SELECT state_name FROM flow_run ORDER BY created").fetchall()
    return [name for (name,) in found]


def ended_by(hone, project: Path, number: signal.Signals) -> tuple[int, str, str]:
    """A run that gets a signal while it trains: its code, both outputs."""
    process = hone.start(
        "run", str(project / "recipe.yaml"), "--set", "data.args={delay: 0.02}",
        "--set", "train.epochs=20",
    )  # fmt: skip
    hone.wait_for(process, "train: epoch ")
    process.send_signal(number)
    out, err = process.communicate(timeout=480)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def ended_and_nothing_left(hone, project: Path, number: signal.Signals) -> None:
    code, _, err = ended_by(hone, project, number)
    assert code == 128 + number, err
    assert f"hone: ended by {number.name}" in err
    _, left = psutil.wait_procs(hone.alive(), timeout=10)
    assert not left, "Ray's agents, too"


@pytest.mark.nightly
def test_ctrl_c_ends_everything(hone, project: Path, tmp_path: Path) -> None:
    code, out, err = ended_by(hone, project, signal.SIGINT)
    assert code == 130, out + err
    wait_until_gone(hone)
    found = statuses(hone.tracking)
    assert {status for runs in found.values() for status in runs} == {"KILLED"}
    assert flow_run_states(tmp_path) == ["Crashed"]


@pytest.mark.nightly
def test_a_terminal_that_is_closed_ends_everything(hone, project: Path) -> None:
    ended_and_nothing_left(hone, project, signal.SIGHUP)


def test_ctrl_c_while_ray_starts_does_not_wait_for_it(hone, project: Path) -> None:
    process = hone.start("run", str(project / "recipe.yaml"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        started = hone.remember(process)
        if any("gcs_server" in child.name() for child in started):
            break
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=480)

    assert process.returncode == 130, out + err
    assert "hone: interrupted" in err
    assert time.monotonic() - asked < 90, "3 s on a machine with nothing else to do"
    _, left = psutil.wait_procs(hone.alive(), timeout=10)
    assert not left


@pytest.mark.nightly
def test_nan_names_the_step_and_keeps_the_last_good_checkpoint(hone, project: Path) -> None:
    done = hone.run("run", str(project / "recipe.yaml"), "--set", "train.loss=wine_model:nan_loss")

    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert re.search(r"the loss became nan at step 7 \(epoch 2\)", said), said
    kept = re.search(r"last good checkpoint is kept: (\S+) \(epoch 1\)", said)
    assert kept, said
    assert (Path(kept.group(1)) / "committed.json").is_file()
    assert "Traceback" not in said
    found = statuses(hone.tracking)
    assert {status for runs in found.values() for status in runs} == {"FAILED"}


@pytest.mark.nightly
def test_a_lost_worker_is_replaced(hone, project: Path, tmp_path: Path) -> None:
    outcome = hone.json(
        "run", str(project / "recipe.yaml"), "--set", "train.epochs=8",
        "--set", "model.factory=wine_model:dying",
        "--set", f"model.args={{marker: '{tmp_path / 'died'}'}}",
        "--set", "variants=[{name: fp32}]",
    )  # fmt: skip

    assert (tmp_path / "died").exists(), "the worker did not die"
    assert outcome["champion"] is not None
    client = mlflow.MlflowClient(hone.tracking)
    (run,) = client.search_runs(
        [client.get_experiment_by_name("wine").experiment_id], "tags.mlflow.runName = 'train'"
    )
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert len(steps) == len(set(steps))
    assert max(steps) == 8 * 4 - 1
