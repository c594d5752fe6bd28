"""What a recipe's models are read from: what gets into the store, and what is refused before."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import made_runs as made
import pytest
import torch
from prefect_hone.flows.engine import fetching
from prefect_hone.flows.engine.pinned_model import pinned
from prefect_hone.flows.engine.session import Session
from prefect_hone.recipe.access_policy import AccessPolicy, Origin
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import READ, SOURCES
from prefect_hone.recipe.schema import Recipe
from safetensors.torch import save, save_file

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"b3BlbnNzaC1rZXktdjEAAAAA\n" * 20


def session_of(folder: Path, origin: Origin, *paths: str) -> Session:
    access = AccessPolicy(origin=origin, factories=made.session(folder).allowed, paths=paths)
    return replace(made.session(folder), access=access, place=folder)


@pytest.fixture
def person(tmp_path: Path) -> Session:
    return session_of(tmp_path, Origin.COMMAND_LINE)


def with_weights(path: object) -> Recipe:
    asked = made.recipe()
    model = {**asked.model.model_dump(), "weights": str(path)}
    return made.recipe(model={name: value for name, value in model.items() if value is not None})


def with_source(path: object) -> Recipe:
    return made.recipe(model={"source": str(path)})


def stored(folder: Path) -> list[Path]:
    return [path for path in (folder / "store").rglob("*") if path.is_file()]


def transformers_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    return folder


def test_weights_are_kept_by_their_bytes_and_only_for_this_user(
    person: Session, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    os.chmod(tmp_path / "w.safetensors", 0o644)
    first = pinned(with_weights("w.safetensors"), person).model.weights
    assert first is not None
    assert first.startswith(f"{person.store.url}/artifacts/")
    assert Path(first).stat().st_mode & 0o077 == 0
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    person.kept.clear()
    assert pinned(with_weights("w.safetensors"), person).model.weights != first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (KEY, "it is not a safetensors file"),
        (b"root:x:0:0:root:/root:/bin/bash\n" * 20, "it is not a safetensors file"),
        (b"\x10\0\0\0\0\0\0\0" + b"secret, not JSON" * 4, "it has"),
        (b"", "it is empty"),
    ],
)
def test_a_key_is_no_model_and_does_not_get_into_the_store(
    person: Session, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "id_rsa").write_bytes(content)
    (tmp_path / "disguised.pt2").write_bytes(content)
    (tmp_path / "disguised.onnx").write_bytes(content)
    with pytest.raises(InputError, match="the weights can't be loaded"):
        pinned(with_weights(tmp_path / "id_rsa"), person)
    for name in ("id_rsa", "disguised.pt2", "disguised.onnx"):
        with pytest.raises(InputError) as caught:
            pinned(with_source(tmp_path / name), person)
        assert str(caught.value).startswith(f"model.source: {tmp_path / name}: ")
    assert stored(tmp_path) == []


@pytest.mark.parametrize("origin", [Origin.PARAMETER, Origin.EVENT])
@pytest.mark.parametrize("field", ["weights", "source", "teacher", "teacher.weights", "student"])
def test_a_recipe_of_somebody_else_reads_no_file_that_is_not_listed(
    tmp_path: Path, origin: Origin, field: str
) -> None:
    (tmp_path / "models").mkdir()
    secret = tmp_path / "secret.safetensors"
    save_file({"a": torch.zeros(2)}, secret)
    (tmp_path / "models" / "link.safetensors").symlink_to(secret)
    transformers_folder(tmp_path / "secrets")
    (tmp_path / "models" / "folder").symlink_to(tmp_path / "secrets")
    session = session_of(tmp_path, origin, str(tmp_path / "models"))
    for path in (secret, tmp_path / "models" / "link.safetensors", tmp_path / "models" / "folder",
                 "/etc/passwd", "http://127.0.0.1:1/w", f"simplecache::file://{secret}"):  # fmt: skip
        with pytest.raises(InputError, match="HONE_ALLOWED_PATHS"):
            pinned(_naming(field, str(path)), session)
    assert stored(tmp_path) == []


def _naming(field: str, path: str) -> Recipe:
    reader = {"factory": READ, "args": {"path": path}}
    distill = {"kind": "distill", "factory": "mine:net"}
    training = {"epochs": 1, "batch_size": 8}
    match field:
        case "weights":
            return with_weights(path)
        case "source":
            return with_source(path)
        case "teacher":
            return made.recipe(train={**training, "objective": {**distill, **reader}})
        case "teacher.weights":
            return made.recipe(train={**training, "objective": {**distill, "weights": path}})
        case _:
            step = {**distill, **reader, "epochs": 1}
            return made.recipe(variants=[{"name": "small", "passes": [step]}], train=training)


def test_teachers_and_students_are_kept_as_the_model_is(person: Session, tmp_path: Path) -> None:
    transformers_folder(tmp_path / "bert")
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    store = f"{person.store.url}/artifacts/"
    teacher: Any = pinned(_naming("teacher", "bert"), person).train.objective
    assert teacher.args["path"].startswith(store)
    student: Any = pinned(_naming("student", "bert"), person).variants[0].passes[0]
    assert student.args["path"] == teacher.args["path"]
    weighed: Any = pinned(_naming("teacher.weights", "w.safetensors"), person).train.objective
    assert weighed.weights.startswith(store)


@pytest.mark.parametrize("field", ["data", "metric", "loss"])
def test_a_reader_of_models_reads_nothing_else(person: Session, field: str) -> None:
    data = {"factory": f"{SOURCES}:program", "args": {"path": "/etc/passwd"}}
    changed: dict[str, Any] = {
        "data": {"data": data},
        "metric": {"quality": {"metric": READ, "higher_is_better": True}},
        "loss": {"train": {"epochs": 1, "batch_size": 8, "loss": READ}},
    }[field]
    with pytest.raises(InputError, match="can be only a model, a teacher or a student"):
        pinned(made.recipe(**changed), person)


def test_links_out_of_a_models_folder_are_refused(person: Session, tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "bert")
    (tmp_path / "outside.txt").write_text("secret")
    for target in (tmp_path / "outside.txt", Path("/etc/passwd"), tmp_path):
        (folder / "vocab.txt").symlink_to(target)
        with pytest.raises(InputError, match=r"'vocab.txt' is a link that leads out"):
            pinned(with_source("bert"), person)
        (folder / "vocab.txt").unlink()
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(InputError, match=r"'pipe.json' is not a regular file"):
        pinned(with_source("bert"), person)
    assert stored(tmp_path) == []


def test_keys_beside_a_model_are_left_where_they_are(person: Session, tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "bert")
    for name in ("id_rsa", "server.pem", ".env", "credentials.json", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    (folder / "tokenizer.json").write_text("{}")
    kept = pinned(with_source("bert"), person).model.args["path"]
    assert {path.name for path in Path(kept).rglob("*")} == {
        "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip


def test_a_snapshot_in_a_hugging_face_cache_is_all_links_and_is_read(
    person: Session, tmp_path: Path
) -> None:
    repository = tmp_path / "models--bert"
    real = transformers_folder(repository / "blobs")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    kept = Path(pinned(with_source(snapshot), person).model.args["path"])
    assert (kept / "model.safetensors").read_bytes() == (real / "model.safetensors").read_bytes()
    assert not (kept / "model.safetensors").is_symlink()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/stdin", "pipe"])
def test_devices_and_pipes_are_no_files(person: Session, tmp_path: Path, device: str) -> None:
    if device == "pipe":
        os.mkfifo(tmp_path / "pipe.onnx")
        device = str(tmp_path / "pipe.onnx")
    for asked in (with_weights(device), with_source(device)):
        with pytest.raises(InputError, match=r"not a regular file|there is no such file"):
            pinned(asked, person)


def test_a_record_in_the_store_does_not_choose_another_file(
    person: Session, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    first = pinned(with_weights("w.safetensors"), person).model.weights
    (record,) = (tmp_path / "store" / "sources").glob("*.json")
    for uri in ("/etc", f"{person.store.url}/artifacts/../../secret"):
        record.write_text(json.dumps({"uri": uri}))
        person.kept.clear()
        assert pinned(with_weights("w.safetensors"), person).model.weights == first


def _header_of(size: int) -> bytes:
    """The beginning of a safetensors file that says that it has this many bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"a": tensor}).encode()
    return len(header).to_bytes(8, "little") + header


class _Server(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []
    sent: ClassVar[int] = 0
    endless: ClassVar[dict[str, bytes]] = {
        "/models/endless": save({"a": torch.zeros(2)}),
        "/models/noise": b"",
        "/models/huge": _header_of(2**50),
        "/models/endless-header": (10**8).to_bytes(8, "little") + b"{",
    }

    def _send_for_ever(self, content: bytes) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(content)
            while _Server.sent < 2 * 10**9:
                _Server.sent += self.wfile.write(bytes(2**20))

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("/models/away"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path in self.endless:
            self._send_for_ever(self.endless[self.path])
            return
        self.wfile.write(KEY if self.path.endswith("key") else save({"a": torch.zeros(2)}))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[str]:
    _Server.seen, _Server.sent = [], 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_weights_from_a_server_that_is_listed(tmp_path: Path, served: str) -> None:
    pytest.importorskip("aiohttp")
    session = session_of(tmp_path, Origin.PARAMETER, f"{served}/models")
    kept = pinned(with_weights(f"{served}/models/w"), session).model.weights
    assert kept is not None
    assert Path(kept).is_file()
    with pytest.raises(InputError, match="not a safetensors file"):
        pinned(with_weights(f"{served}/models/key"), session)
    with pytest.raises(InputError, match="may not read this URL"):
        pinned(with_weights(f"{served}/other/w"), session)
    assert _Server.seen == ["/models/w", "/models/key"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("endless", "the server sends more than the file says it has"),
        ("noise", "it is not a safetensors file"),
        ("huge", "the weights have 1,125,899.9 GB, and"),
        ("endless-header", "its header is not that of a safetensors file"),
    ],
)
@pytest.mark.parametrize("origin", [Origin.COMMAND_LINE, Origin.PARAMETER])
def test_a_server_that_sends_for_ever_fills_no_disk(
    tmp_path: Path, served: str, origin: Origin, name: str, said: str
) -> None:
    pytest.importorskip("aiohttp")
    session = session_of(tmp_path, origin, f"{served}/models")
    with pytest.raises(InputError, match=said):
        pinned(with_weights(f"{served}/models/{name}"), session)
    assert _Server.sent < 400 * 10**6, "no more than buffers hold, or the longest header"
    assert stored(tmp_path) == []


def test_a_server_that_sends_slowly_is_given_up(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(fetching, "_AFTER", -1.0)
    monkeypatch.setattr(fetching, "_SLOWEST", 10**12)
    session = session_of(tmp_path, Origin.PARAMETER, f"{served}/models")
    with pytest.raises(InputError, match=r"the server is too slow: \d+ bytes in 0 s"):
        pinned(with_weights(f"{served}/models/w"), session)


def test_a_plan_downloads_nothing_and_says_what_it_goes_by(tmp_path: Path, served: str) -> None:
    pytest.importorskip("aiohttp")
    session = session_of(tmp_path, Origin.PARAMETER, f"{served}/models")
    asked = with_weights(f"{served}/models/w")
    dry = replace(session, dry=True, kept={}, notes=[])
    unknown = pinned(asked, dry).model.weights
    assert _Server.seen == []
    assert stored(tmp_path) == []
    assert dry.notes == [f"model.weights: {served}/models/w is not looked at until the run"]

    kept = pinned(asked, session).model.weights
    again = replace(session, dry=True, kept={}, notes=[])
    assert pinned(asked, again).model.weights == kept != unknown
    assert _Server.seen == ["/models/w"]
    (note,) = again.notes
    assert "is taken as the last run got it; a run downloads it again" in note
    with pytest.raises(InputError, match="may not read this URL"):
        pinned(with_weights(f"{served}/other/w"), replace(session, dry=True, kept={}))


def test_a_plan_asks_mlflow_only_where_a_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_hone.tasks.tracking import logged_models

    logged, fetched = transformers_folder(tmp_path / "mlartifacts" / "m"), []
    (logged / "MLmodel").write_text("flavors: {transformers: {}}")

    def download(**_: str) -> str:
        fetched.append(1)
        return str(logged)

    monkeypatch.setattr(logged_models, "locations", lambda *_: [str(logged)])
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    session = session_of(tmp_path, Origin.COMMAND_LINE)
    dry = replace(session, dry=True, kept={}, notes=[])
    pinned(with_source("models:/m/1"), dry)
    assert fetched == []
    assert dry.notes == ["model.source: models:/m/1 is not looked at until the run"]
    kept = pinned(with_source("models:/m/1"), session).model.args
    assert fetched == [1]
    again = replace(session, dry=True, kept={}, notes=[])
    assert pinned(with_source("models:/m/1"), again).model.args == kept
    assert fetched == [1]


def test_a_plan_makes_no_database_to_look_for_a_model(tmp_path: Path) -> None:
    made_for = session_of(tmp_path, Origin.COMMAND_LINE)
    settings = replace(made_for.settings, tracking=f"sqlite:///{tmp_path}/mlflow.db")
    session = replace(made_for, settings=settings, dry=True)
    with pytest.raises(InputError, match="its database does not exist yet"):
        pinned(with_source("models:/m/1"), session)
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize("origin", [Origin.COMMAND_LINE, Origin.PARAMETER])
def test_a_redirect_leads_no_further_than_the_recipe(
    tmp_path: Path, served: str, origin: Origin
) -> None:
    pytest.importorskip("aiohttp")
    session = session_of(tmp_path, origin, f"{served}/models")
    away = ["http://169.254.169.254/latest"]
    if origin is Origin.PARAMETER:
        away += [f"{served}/other/w", "/other/w"]
    for target in away:
        with pytest.raises(InputError) as caught:
            pinned(with_weights(f"{served}/models/away?{target}"), session)
        assert "redirects to" in str(caught.value)
    assert all(path.startswith("/models/away") for path in _Server.seen)


def test_an_address_is_asked_for_as_the_client_reads_it(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers of a URL can see two hosts in it; and no resolver is asked about an address."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(AccessPolicy, "_check_url", lambda *_: None)
    session = session_of(tmp_path, Origin.EVENT)
    with pytest.raises(InputError, match=r"'127\.0\.0\.1' is an address within this machine"):
        pinned(with_weights(f"{served}/models/w"), session)
    assert _Server.seen == []


@pytest.mark.parametrize("origin", [Origin.PARAMETER, Origin.EVENT])
def test_a_registered_model_whose_files_are_elsewhere_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Origin
) -> None:
    from prefect_hone.tasks.tracking import logged_models

    asked = []
    monkeypatch.setattr(logged_models, "locations", lambda *_: ["mlflow-artifacts:/0/m", "/etc"])
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda **_: asked.append(1))
    session = session_of(tmp_path, origin)
    with pytest.raises(InputError, match="may not read the registered model's files at /etc"):
        pinned(with_source("models:/planted/1"), session)
    assert asked == []
    for uri in ("models://elsewhere/m/1", "runs:/ab/../../etc", "runs:/ab/x' OR '1"):
        with pytest.raises(InputError, match="no model of the MLflow server"):
            pinned(with_source(uri), session)


def test_a_plan_puts_nothing_into_the_store_and_says_where_it_will_be(
    person: Session, tmp_path: Path
) -> None:
    transformers_folder(tmp_path / "bert")
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    dry = replace(person, dry=True, kept={})
    for asked in (with_source("bert"), with_weights("w.safetensors")):
        planned = pinned(asked, dry)
        assert stored(tmp_path) == []
        assert pinned(asked, replace(person, kept={})) == planned
        shutil.rmtree(tmp_path / "store")


@pytest.mark.parametrize("origin", list(Origin))
def test_an_exported_program_is_off_for_a_recipe_of_somebody_else(
    tmp_path: Path, origin: Origin
) -> None:
    folder = transformers_folder(tmp_path / "models" / "folder")
    for path in (folder / "inner.pt2", tmp_path / "models" / "m.pt2"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/archive_format", b"pt2")
    session = session_of(tmp_path, origin, str(tmp_path / "models"))
    for path in (tmp_path / "models" / "m.pt2", folder):
        if origin is Origin.COMMAND_LINE:
            assert pinned(with_source(path), session).model.args["path"]
        else:
            with pytest.raises(InputError, match="read only for a recipe file that a person runs"):
                pinned(with_source(path), session)
    assert bool(stored(tmp_path)) is (origin is Origin.COMMAND_LINE)


def test_a_registered_model_with_links_out_of_its_folder_is_not_downloaded(
    person: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_hone.tasks.tracking import logged_models

    folder = transformers_folder(tmp_path / "artifacts")
    (folder / "vocab.txt").symlink_to("/etc/passwd")
    monkeypatch.setattr(logged_models, "locations", lambda *_: [str(folder)])
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda **_: pytest.fail("read"))
    with pytest.raises(InputError, match="leads out of the folder"):
        pinned(with_source("models:/linked/1"), person)
