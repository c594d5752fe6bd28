"""`hone doctor` with servers that want a user and a password, given in their URLs."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect_hone.flows.cli import doctor
from prefect_hone.flows.cli.prefect_server import require_server
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import AccessRefused

RIGHT = "Basic " + b64encode(b"anne:pass%word").decode()


class Guarded(BaseHTTPRequestHandler):
    """Answers whoever knows the password; MLflow's `/health` answers everyone."""

    def do_GET(self) -> None:
        open_to_all = self.path == "/health"
        lets_in = open_to_all or self.headers.get("Authorization") == RIGHT
        self.send_response(200 if lets_in else 401)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("user", "state", "said"),
    [
        ("anne:pass%25word@", "good", "http://"),
        ("anne:wrong@", "bad", "denies access (401): set MLFLOW_TRACKING_USERNAME and"),
        ("", "bad", "denies access (401)"),
    ],
)
def test_mlflow(
    port: int, monkeypatch: pytest.MonkeyPatch, user: str, state: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{user}127.0.0.1:{port}")
    found = doctor._mlflow(Settings.from_environment())
    assert found.state == state, found.text
    assert said in found.text
    assert "word" not in found.text.replace("PASSWORD", "")


@pytest.mark.parametrize(
    ("user", "state", "said"),
    [
        ("anne:pass%25word@", "good", "http://"),
        ("anne:wrong@", "bad", "denies access (401): set PREFECT_API_AUTH_STRING"),
        ("", "bad", "denies access (401)"),
    ],
)
def test_prefect(
    port: int, monkeypatch: pytest.MonkeyPatch, user: str, state: str, said: str
) -> None:
    url = f"http://{user}127.0.0.1:{port}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    found = doctor._prefect()
    assert found.state == state, found.text
    assert said in found.text
    assert "word" not in found.text
    if state == "bad":
        with pytest.raises(AccessRefused, match="denies access"):
            require_server(url)
