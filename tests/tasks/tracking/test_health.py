"""An MLflow server that answers everybody's `/health`, and the rest only to its users."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_server import Handler, serving
from prefect_hone.recipe.errors import AccessRefused
from prefect_hone.tasks.tracking.health import denied, late_answers, require_answer

RIGHT = ("Basic YW5uOnJpZ2h0", "Bearer right")  # ann:right


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


@pytest.fixture
def server() -> Iterator[str]:
    class Api(Handler):
        def do_GET(self) -> None:
            free = self.path == "/health" or self.headers["Authorization"] in RIGHT
            self.send_response(200 if free else 401)
            self.end_headers()

    with serving(Api) as port:
        yield f"http://127.0.0.1:{port}"


def test_wrong_credentials_are_refused_before_a_run_begins(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AccessRefused, match="denies access"):
        require_answer(server)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wr0ng")
    with pytest.raises(AccessRefused) as refused:
        require_answer(server)
    assert "wr0ng" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right")
    require_answer(server)


def test_a_token_or_what_only_mlflows_client_knows(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "a-plugin")
    assert denied(server) is None
    monkeypatch.delenv("MLFLOW_TRACKING_AUTH")
    assert denied(server)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "right")
    assert denied(server) is None
    assert denied("http://127.0.0.1:9", 0.5) is None


@pytest.mark.parametrize(("first", "later", "held_up"), [(0, 0.1, True), (0.1, 0, False)])
def test_answers_that_are_late_on_a_kept_connection(
    first: float, later: float, held_up: bool
) -> None:
    """A distant server is late on a new one: it takes two ways there and back."""

    class Api(Handler):
        protocol_version = "HTTP/1.1"
        requests = 0

        def do_GET(self) -> None:
            time.sleep(later if self.requests else first)
            self.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Api) as port:
        found = late_answers(f"http://127.0.0.1:{port}")
    assert (found is not None) is held_up
    if found is not None:
        assert found[0] < 0.1 <= found[1]
    assert late_answers("http://127.0.0.1:9", 0.5) is None
