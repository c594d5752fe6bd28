"""A canary in every URL and variable is found nowhere but in the memory of what opens it."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_runs
import psutil
import pytest
from prefect_hone import load_recipe
from prefect_hone.flows.cli import doctor
from prefect_hone.flows.engine.pinned_model import pinned
from prefect_hone.flows.engine.recipe_secrets import without_credentials
from prefect_hone.flows.engine.session import new_session
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.flows.logs import hide_in_logs
from prefect_hone.ray_workers.dispatch import StepJob, execute
from prefect_hone.ray_workers.limited import within
from prefect_hone.ray_workers.workspace import Result, Workspace
from prefect_hone.recipe.access_policy import Origin
from prefect_hone.recipe.errors import HoneError, InputError, StoreError
from prefect_hone.recipe.factories import Allowed
from prefect_hone.recipe.model import DataFactory
from prefect_hone.recipe.strict import Strict
from prefect_hone.tasks.tracking import health
from prefect_hone.tasks.tracking.entries import ParamsEntry, TagsEntry, TextEntry
from prefect_hone.tasks.tracking.tracker import Tracker

CANARY = "CANARY-7f3a9b"


def recipe(**model: Any) -> Any:
    return made_runs.recipe(
        model={"factory": "prefect_hone.recipe.examples.digits.digits_model:small_resnet", **model},
        data={
            "factory": "prefect_hone.recipe.examples.digits.digits_data:digits",
            "args": {"url": f"s3://AKIA:{CANARY}@bucket/data", "token": CANARY},
        },
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HONE_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "HONE_STORE", "RAY_ADDRESS", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # to be put back afterwards
        monkeypatch.delenv(name)
    return tmp_path / "home"


def found_in(folder: Path, canary: str = CANARY) -> list[str]:
    """The files that hold a canary, as it is or as base64."""
    forms = {canary.encode()}
    forms |= {base64.b64encode(f"{user}:{canary}".encode()) for user in ("me", "")}
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


def test_what_a_run_keeps_of_a_recipe_has_no_credentials(home: Path) -> None:
    given = recipe(weights=f"https://me:{CANARY}@host/w.safetensors?X-Amz-Signature={CANARY}")
    session = new_session(given)

    kept = session.recipe
    assert CANARY not in kept.model_dump_json()
    assert CANARY not in repr(session)
    assert kept.model.weights.startswith("https://***")
    assert session.with_credentials(kept) == given
    assert session.with_secrets(kept.model.weights) == given.model.weights
    again = without_credentials(
        given.model_copy(
            update={
                "data": given.data.model_copy(
                    update={"args": {**given.data.args, "token": "other"}}
                )
            }
        )
    )[0]
    assert again.digest() == kept.digest(), "a new token is no new recipe"
    with pytest.raises(InputError, match=r"credentials of .* were left out"):
        new_session(kept)


def test_a_student_whose_arguments_the_store_keeps_has_no_credentials(home: Path) -> None:
    student = {
        "kind": "distill", "epochs": 1, "args": {"token": CANARY},
        "factory": "prefect_hone.recipe.examples.digits.digits_model:small_resnet",
    }  # fmt: skip
    given = made_runs.recipe(variants=[{"name": "small", "passes": [student]}])
    with pytest.raises(InputError, match="can't hold credentials") as caught:
        without_credentials(given)
    assert caught.value.where == "variants.0.passes.0.args"
    assert CANARY not in str(caught.value)


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves files to who has the password and the signature."""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"me:{CANARY}".encode()).decode()
        if self.headers.get("Authorization") != wanted or f"sig={CANARY}" not in self.path:
            self.send_error(403, f"no access for {self.path}")
            return
        super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and `host:port` of a server of it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Files, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_with_credentials_that_are_kept_nowhere(
    home: Path, files: tuple[Path, str]
) -> None:
    import torch
    from safetensors.torch import save_file

    folder, host = files
    save_file({"a": torch.zeros(2)}, str(folder / "w.safetensors"))
    url = f"http://me:{CANARY}@{host}/w.safetensors?sig={CANARY}"
    session = new_session(recipe(weights=url), origin=Origin.COMMAND_LINE)

    fixed = pinned(session.recipe, session)

    assert str(fixed.model.weights).startswith(str(home))
    assert CANARY not in fixed.model_dump_json()
    assert not found_in(home)


def test_a_refusal_of_weights_shows_no_credentials(home: Path, files: tuple[Path, str]) -> None:
    _, host = files
    url = f"http://me:{CANARY}@{host}/gone.safetensors?sig={CANARY}-wrong"
    session = new_session(recipe(weights=url), origin=Origin.COMMAND_LINE)
    with pytest.raises(HoneError) as caught:
        pinned(session.recipe, session)
    assert CANARY not in str(caught.value)
    assert host in str(caught.value)


class ReadSpec(Strict):
    data: DataFactory


def echo(work: Workspace[ReadSpec]) -> Result:
    """A step that tells everything that it was given."""
    said = work.spec.data.args
    assert CANARY in str(said), "the worker's factories get the credentials"
    (work.output("samples", "samples") / "a").write_text("a")
    return Result(params={"data": str(said)}, notes=[f"read {said['url']} with {said['token']}"])


def refuse(work: Workspace[ReadSpec]) -> Result:
    raise ValueError(f"can't read {work.spec.data.args}")


@pytest.mark.parametrize("function", ["echo", "refuse"])
def test_a_step_gets_credentials_and_its_record_has_none(
    home: Path, tmp_path: Path, function: str
) -> None:
    session = new_session(recipe())
    job = StepJob(
        function=f"{__name__}:{function}",
        key="k", lineage="k", spec={"data": session.recipe.data.model_dump(mode="json")},
        inputs={}, code=None, allowed=Allowed(), secrets=session.all_secrets,
        store=str(home / "store"), cache=str(home / "cache"),
    )  # fmt: skip
    assert CANARY not in repr(job)
    assert CANARY not in str(job.spec)
    if function == "refuse":
        with pytest.raises(HoneError) as caught:
            execute(job, lambda _: None)
        assert CANARY not in str(caught.value.to_dict())
        return
    done = execute(job, lambda _: None)
    assert CANARY not in done.model_dump_json()
    assert "s3://***" in done.notes[0]
    assert not found_in(home)


def test_a_store_with_credentials_keeps_them_out_of_its_records(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://me:{CANARY}@bucket/store"
    monkeypatch.setenv("HONE_STORE", url)
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "w").write_text("weights")
    session = new_session(recipe())
    artifact = session.store.put(folder, "weights")
    session.store.write_record("steps/check/k.json", {"uri": artifact.uri})

    assert CANARY not in artifact.model_dump_json()
    assert session.store.fetch(artifact).joinpath("w").read_text() == "weights"
    assert session.with_secrets(f"{artifact.uri}/w") == f"{url}/artifacts/{artifact.sha256}/w"
    files = session.store.fs.find(session.store.root)
    held = b"".join(session.store.fs.cat_file(name) for name in files)
    assert held
    assert CANARY.encode() not in held
    assert CANARY not in str(StoreError("can't be read", where=f"HONE_STORE={url}"))


def test_mlflow_gets_its_password_apart_from_its_uri(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{CANARY}%40@host:5000/ml")
    settings = Settings.from_environment()
    assert settings.tracking == "https://host:5000/ml"
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/ml"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == f"{CANARY}@"
    assert Settings.from_environment() == settings


def test_a_journal_and_what_mlflow_gets_have_no_credentials(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    uri = f"postgresql://me:{CANARY}@host/mlflow"
    tracker = Tracker(uri, None, "wine", tmp_path / "journal")
    monkeypatch.setattr(tracker._sender, "connect", lambda: None)
    monkeypatch.setattr(tracker._sender, "create_run", lambda *a: sent.append(a) or "run")
    monkeypatch.setattr(tracker, "_work", lambda: None)
    tracker.open("wine", {"hone.recipe": f"see {uri}"})
    tracker.params("parent", {"weights": f"https://host/?sig={CANARY}"})
    tracker.tags("parent", {"hone.error": f"no route to {uri}"})
    tracker.text("parent", f"model: {{weights: 'https://me:{CANARY}@host/w'}}", "recipe.yaml")

    assert CANARY not in str(sent)
    assert not found_in(tmp_path)
    assert tracker._journal is not None
    kinds = [type(entry) for entry in tracker._journal.entries]
    assert kinds[1:] == [ParamsEntry, TagsEntry, TextEntry]
    assert CANARY not in str(tracker._journal.entries)


def test_logs_have_no_credentials_even_in_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        hide_in_logs()
        hide_in_logs()
        log = logging.getLogger("prefect.flow_runs")
        log.error("can't reach %s", f"http://me:{CANARY}@host")
        try:
            raise RuntimeError(f"http://me:{CANARY}@host is away")
        except RuntimeError:
            log.exception("the flow failed")
        texts = [logging.Formatter().format(record) for record in caplog.records]
    finally:
        logging.setLogRecordFactory(before)
    assert CANARY not in "".join(texts)
    assert "RuntimeError: http://***@host is away" in texts[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_URI", f"http://me:{CANARY}@127.0.0.1:1"),
        ("PREFECT_API_URL", f"http://me:{CANARY}@127.0.0.1:1/api"),
        ("RAY_ADDRESS", f"me:{CANARY}@127.0.0.1:1"),
        ("RAY_ADDRESS", f"ray://me:{CANARY}@127.0.0.1:1"),
        ("HONE_STORE", f"ftp://me:{CANARY}@127.0.0.1:1/store"),
        ("HONE_STORE", f"s3://me:{CANARY}@bucket/store"),
        ("HONE_STORE", f"nothing://me:{CANARY}@host/store"),
        ("HONE_STORE", f"http://me:{CANARY}@127.0.0.1:1/store"),
        ("HONE_STORE", f"file://me:{CANARY}@host/\0"),
    ],
)
def test_doctor_shows_no_credentials_and_raises_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)  # fsspec takes a host in a file URL for a folder of the current one
    if "\0" in value:
        monkeypatch.setattr(
            Settings,
            "from_environment",
            staticmethod(lambda: Settings(home, value, "sqlite:///x", None, None)),
        )
    else:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "_targets", list)
    monkeypatch.setattr(doctor, "_STORE_SECONDS", 3.0)
    found = doctor.diagnose()
    assert CANARY not in str(found)
    if not value.startswith("ray://"):  # Ray itself finds out
        assert any(finding.state == "bad" for finding in found)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


def test_a_silent_mlflow_server_is_told_of_soon(silent: int) -> None:
    started = time.monotonic()
    assert health.problem_with(f"http://127.0.0.1:{silent}", 0.3) is not None
    assert time.monotonic() - started < 30
    assert health.problem_with("sqlite:///x.db") is None
    assert "refused" in str(health.problem_with("http://127.0.0.1:1"))


def test_a_silent_store_is_told_of_soon(
    home: Path, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_STORE", f"http://me:{CANARY}@127.0.0.1:{silent}/store")
    monkeypatch.setattr("prefect_hone.flows.engine.session._STORE_SECONDS", 0.3)
    with pytest.raises(StoreError, match=r"did not answer within 0\.3 s") as caught:
        new_session(load_recipe("digits"))
    assert CANARY not in str(caught.value)


def test_a_limit_passes_results_and_errors_on() -> None:
    assert within(5, lambda: 3, TimeoutError) == 3
    assert within(5, lambda: None, TimeoutError) is None
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, TimeoutError)
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(1), TimeoutError)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for Ray, whose sockets must have short paths."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.nightly
def test_a_whole_run_leaves_no_canary(
    hone,
    project: Path,
    tmp_path: Path,
    short: Path,
    files: tuple[Path, str],
    mlflow_server,
    prefect_server,
) -> None:
    from safetensors.torch import save_file

    sys.path.insert(0, str(project))
    try:
        import wine_model

        save_file(wine_model.net(32).state_dict(), str(files[0] / "w.safetensors"))
    finally:
        sys.path.remove(str(project))
    weights = f"http://me:{CANARY}@{files[1]}/w.safetensors?sig={CANARY}"
    environment = {
        "MLFLOW_TRACKING_URI": mlflow_server.url.removesuffix("/health").replace(
            "//", f"//me:{CANARY}@"
        ),
        "PREFECT_API_URL": prefect_server.url.removesuffix("/health").replace(
            "//", f"//me:{CANARY}@"
        ),
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
        "RAY_TMPDIR": str(short),
    }
    options = [
        "--set", "train.epochs=0", "--set", f"model.weights={weights}", "--set", "gates=[]",
        "--set", "variants=[{name: fp32}]",
    ]  # fmt: skip
    process = hone.start("run", str(project / "recipe.yaml"), *options, **environment)
    seen: set[str] = set()
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                seen.add(" ".join(child.cmdline()))
        time.sleep(0.5)
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    plan = hone.run("plan", str(project / "recipe.yaml"), *options, **environment)
    away = hone.run(
        "run", str(project / "recipe.yaml"), *options,
        **{**environment, "MLFLOW_TRACKING_URI": f"http://me:{CANARY}@127.0.0.1:1"},
    )  # fmt: skip

    assert process.returncode == 0, out + err
    assert plan.returncode == 0, plan.stderr
    assert away.returncode == 1
    assert "MLflow does not answer" in away.stderr
    for text in (out, err, plan.stdout, plan.stderr, away.stdout, away.stderr, *seen):
        assert CANARY not in text
    assert found_in(tmp_path) == []
    assert found_in(short) == []
