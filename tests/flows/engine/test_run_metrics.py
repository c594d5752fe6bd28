"""What runs count reaches Prometheus, whatever way it is asked for, and never fails a run."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_server import Handler, serving
from made_runs import MEASURED, benchmarked, recipe, results, usual
from prefect.states import Completed, Failed
from prefect_hone.flows.engine import run_count
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.flows.engine.pipeline import told_by_state
from prefect_hone.flows.engine.run_metrics import (
    CHANGED,
    DROP,
    FILE,
    GATES,
    LATENCY,
    RUNS,
    SPEEDUP,
    STEPS,
    SUCCEEDED,
    Counted,
    RunMetrics,
    keep,
)
from prefect_hone.flows.operate.listener_metrics import ListenerMetrics
from prefect_hone.recipe.errors import InputError
from prefect_hone.tasks.outcome import Outcome
from prefect_hone.tasks.tracking.ledger import Action, Event, Record
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def a_run(state: object, named: str = "wine") -> None:
    def work() -> object:
        run_count.this_run().recipe = named
        if isinstance(state, Exception):
            raise state
        return state

    told_by_state(work)  # type: ignore[arg-type]


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_runs_are_counted_by_how_they_ended(home: Path) -> None:
    a_run(Completed())
    a_run(Completed())
    a_run(Failed(name="NoCandidatePassed"))
    a_run(InputError("no such recipe"), named="")
    with pytest.raises(RuntimeError):
        a_run(RuntimeError("a fault"))
    found = RunMetrics(home).read()
    runs = {labels[1:]: value for (name, labels), value in found.items() if name == RUNS.name}
    assert runs == {
        ("wine", "Completed"): 2, ("wine", "NoCandidatePassed"): 1, ("", "InvalidInput"): 1,
        ("wine", "Crashed"): 1,
    }  # fmt: skip
    assert found[SUCCEEDED.name, ("", "wine")] > 1e9
    assert (SUCCEEDED.name, ("", "")) not in found


def test_the_listener_shows_them_beside_its_own(home: Path) -> None:
    a_run(Completed())
    shown = samples(ListenerMetrics(home).text().decode())
    assert shown["hone_runs_total", ("", "wine", "Completed")] == 1
    assert shown["hone_listener_last_poll_timestamp_seconds", ()] == 0


def test_a_champion_that_changed_in_a_run_or_by_a_command(home: Path) -> None:
    record = Record(event=Event.DONE, action=Action.ROLLBACK, alias="champion", after="1")

    def work() -> object:
        run_count.champion_changed("wine", record)
        return Completed()

    told_by_state(work)  # type: ignore[arg-type]
    run_count.champion_changed("wine", record)
    run_count.champion_changed("wine", record.model_copy(update={"event": Event.OBSERVED}))
    found = RunMetrics(home).read()
    assert found["hone_champion_changes", ("wine", "rollback")] == 2
    assert found["hone_champion_changes", ("wine", "past-hone")] == 1


def test_how_old_a_champion_is_and_what_the_last_winner_is_like(home: Path) -> None:
    found = conclude(
        recipe(), "r1", results(recipe(), usual(fp32=0.0, int8=0.01), benchmarked(MEASURED))
    )
    assert found.winning is not None
    metrics = found.winning.metrics

    def work(outcome: Outcome) -> object:
        run_count.this_run().recipe = "wine"
        run_count.this_run().outcome(outcome)
        run_count.moved("wine", "champion", "promote")
        return Completed()

    told_by_state(lambda: work(found))  # type: ignore[arg-type, return-value]
    kept = RunMetrics(home).read()
    assert kept[DROP.name, ("", "wine")] == metrics["quality/drop"]
    assert kept[LATENCY.name, ("", "wine")] == metrics["latency/p50_ms"] / 1000
    assert kept[SPEEDUP.name, ("", "wine")] == metrics["latency/ratio"]
    assert time.time() - kept[CHANGED.name, ("wine", "champion")] < 600
    fails = found.winning.model_copy(update={"metrics": {"quality/drop": 0.5}})
    again = found.model_copy(update={"winner": None, "candidates": (fails,)})
    told_by_state(lambda: work(again))  # type: ignore[arg-type, return-value]
    kept = RunMetrics(home).read()
    assert kept[DROP.name, ("", "wine")] == 0.5, "of a champion that fails, too"
    none = found.model_copy(update={"winner": None})
    told_by_state(lambda: work(none))  # type: ignore[arg-type, return-value]
    assert RunMetrics(home).read()[DROP.name, ("", "wine")] == 0.5


def test_counts_of_many_runs_at_once_are_all_there(home: Path) -> None:
    def one() -> None:
        counted = Counted()
        counted.add(STEPS, "wine", "train", "computed")
        RunMetrics(home).add(counted)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RunMetrics(home).read()[STEPS.name, ("wine", "train", "computed")] == 8


def test_the_text_file_is_readable_for_the_node_exporter(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()
    counted.add(GATES, 'wi"ne\n', "quality.drop")
    place = tmp_path / "hone.prom"
    monkeypatch.setenv("HONE_METRICS_FILE", str(place))
    keep(counted)
    assert samples(place.read_text())["hone_gates_failed_total", ("quality.drop", 'wi"ne\n')] == 1
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    monkeypatch.setenv("HONE_METRICS_FILE", str(tmp_path / "hone.txt"))
    keep(counted)
    assert "names end in .prom" in caplog.text
    monkeypatch.setenv("HONE_METRICS_FILE", str(tmp_path / "no" / "folder" / "hone.prom"))
    keep(counted)
    assert "did not get out" in caplog.text


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str | None, str]]]]:
    """Stands for a push gateway; its address, and what it got: path, Authorization, body."""
    got: list[tuple[str, str | None, str]] = []

    class Gateway(Handler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()

    with serving(Gateway) as port:
        yield f"127.0.0.1:{port}", got


def test_a_push_has_the_counts_of_all_runs(
    gateway: tuple[str, list[tuple[str, str | None, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = gateway
    monkeypatch.setenv("HONE_METRICS_PUSH", f"http://prom:s3cret@{address}")
    a_run(Completed())
    a_run(Completed())
    path, user, body = got[-1]
    assert path.startswith("/metrics/job/hone/")
    assert "/instance/" in path
    assert user is not None
    assert user.startswith("Basic ")
    assert samples(body)["hone_runs_total", ("", "wine", "Completed")] == 2


def test_a_gateway_that_is_away_or_a_home_that_cant_be_written_fails_no_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HONE_METRICS_PUSH", "http://prom:s3cret@127.0.0.1:9")
    a_run(Completed())
    assert "did not get out" in caplog.text
    assert "s3cret" not in caplog.text
    (home / FILE).unlink()
    (home / FILE).mkdir()
    a_run(Completed())
    assert "are not kept" in caplog.text


def test_a_damaged_file_begins_anew(home: Path) -> None:
    a_run(Completed())
    (home / FILE).write_text('[["hone_runs", 3]]')
    a_run(Completed())
    assert RunMetrics(home).read()[RUNS.name, ("", "wine", "Completed")] == 1
