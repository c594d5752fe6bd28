"""A configured Prefect server: away, closed to this user, or there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_server import Handler, serving
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect_hone.flows.cli.doctor import _prefect
from prefect_hone.flows.cli.prefect_server import require_server
from prefect_hone.recipe.errors import AccessRefused, ServerUnreachable

RIGHT = "Basic aG9uZTpyaWdodA=="  # hone:right


@pytest.fixture
def server() -> Iterator[str]:
    """Stands for Prefect's: everybody may ask for its health, and only hone for the rest."""

    class Api(Handler):
        def do_GET(self) -> None:
            free = self.path == "/api/health" or self.headers["Authorization"] == RIGHT
            self.send_response(200 if free else 401)
            self.end_headers()

    with serving(Api) as port:
        yield f"http://127.0.0.1:{port}/api"


def test_credentials_that_the_server_refuses_are_refused_at_once(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server)
    for wrong in ("hone:wrong", ""):
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", wrong)
        with pytest.raises(AccessRefused, match="denies access") as refused:
            require_server(server)
        assert "PREFECT_API_AUTH_STRING" in str(refused.value)
        assert "wrong" not in str(refused.value)
        assert _prefect().state == "bad"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "hone:right")
    require_server(server)
    assert _prefect().state == "good"


def test_credentials_of_the_profile_count(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with temporary_settings({PREFECT_API_AUTH_STRING: "hone:right"}):
        require_server(server)


def test_a_server_that_is_away() -> None:
    with pytest.raises(ServerUnreachable, match="does not answer"):
        require_server("http://127.0.0.1:9/api")
