"""A proxy in the environment is not asked for servers on this machine."""

from __future__ import annotations

import functools
import importlib.util
import urllib.request

import httpx
import pytest
import requests
from http_server import Handler, serving
from prefect_hone.flows.cli.prefect_server import problem_with
from prefect_hone.flows.cli.proxies import reach_this_machine_directly
from prefect_hone.recipe.machine_errors import machine_error

DEAD = "http://127.0.0.1:9"
OURS = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"http_proxy": ""}, None),
        ({"no_proxy": "a.example"}, "a.example"),
        ({"http_proxy": DEAD}, OURS),
        ({"HTTPS_PROXY": DEAD, "NO_PROXY": ".corp, localhost"}, ".corp,localhost,127.0.0.1,::1"),
        ({"ALL_PROXY": DEAD, "no_proxy": "10.0.0.0/8", "NO_PROXY": "b"}, f"10.0.0.0/8,{OURS}"),
        ({"http_proxy": DEAD, "no_proxy": "*"}, "*"),
    ],
)
def test_hosts_without_a_proxy(given: dict[str, str], expected: str | None) -> None:
    environment = dict(given)
    reach_this_machine_directly(environment)
    assert environment.get("no_proxy") == expected


def test_what_the_clients_of_prefect_and_mlflow_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api(Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setattr(urllib.request, "_opener", None)  # made before, it knows no proxy
    with serving(Api) as port:
        urls = [f"http://{host}:{port}/api" for host in ("127.0.0.1", "localhost")]
        assert problem_with(urls[0]) == "does not answer"
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        reach_this_machine_directly()
        for url in urls:
            assert problem_with(url) is None
            assert httpx.get(url).status_code == 200
            assert requests.get(url, timeout=5).status_code == 200
            with urllib.request.urlopen(url) as answer:
                assert answer.status == 200


def test_the_texts_about_a_socks_proxy_are_those_that_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    get = functools.partial(requests.get, timeout=5)
    for module, ask in (("socksio", httpx.get), ("socks", get)):
        if importlib.util.find_spec(module) is not None:
            continue  # the package is here
        with pytest.raises((ImportError, requests.exceptions.InvalidSchema)) as found:
            ask("http://a.example")
        assert "[socks]" in str(machine_error(found.value))
