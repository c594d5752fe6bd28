"""How a fresh clone gets its environment: `.ci/set_up.py`."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
LOGIN = "someone:verysecret"


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for the environment that the tests run in."""
    spec = importlib.util.spec_from_file_location("set_up", ROOT / ".ci" / "set_up.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "set_up", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(module, "VENV", Path(sys.prefix))
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


# pip's configuration


def test_pip_is_asked_for_its_configuration(set_up, tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://global/simple\ntimeout = 7\nfind-links =\n  /one\n  /two\n"
        "[install]\nindex-url = https://install/simple\n"
        "[download]\nindex-url = https://download/simple\n"
    )
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    listing = set_up.captured(
        [sys.executable, "-m", "pip", "config", "list"],
        {**plain, "PIP_CONFIG_FILE": str(file), "PIP_DEFAULT_TIMEOUT": "30", "PIP_RETRIES": "2"},
    )
    options = set_up.pip_options(listing.stdout)
    assert options["index-url"] == "https://install/simple"
    assert options["find-links"].split() == ["/one", "/two"]
    assert options["timeout"] == "30"
    assert options["retries"] == "2"


def test_an_empty_variable_leaves_what_the_file_says(set_up) -> None:
    options = set_up.pip_options(":env:.index-url=''\nglobal.index-url='https://file/simple'\n")
    assert options == {"index-url": "https://file/simple"}


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ({"index-url": "https://m/simple"}, {"UV_DEFAULT_INDEX": "https://m/simple"}),
        ({"extra-index-url": "https://a/s\nfile:///b"}, {"UV_INDEX": "https://a/s file:///b"}),
        ({"find-links": "https://a/page /not/there"}, {"UV_FIND_LINKS": "https://a/page"}),
        ({"find-links": f"{ROOT} {ROOT.as_uri()}"}, {"UV_FIND_LINKS": f"{ROOT},{ROOT}"}),
        ({"trusted-host": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"timeout": "90", "retries": "1"}, {"UV_HTTP_TIMEOUT": "90", "UV_HTTP_RETRIES": "1"}),
        ({"constraint": "/c1 /c2"}, {"UV_CONSTRAINT": "constraints.txt /c1 /c2"}),
        ({}, {"UV_CONSTRAINT": "constraints.txt", "UV_BUILD_CONSTRAINT": "constraints.txt"}),
        ({"cert": "/ca.pem", "client-cert": "/me.pem"}, {"SSL_CERT_FILE": "/ca.pem", "SSL_CLIENT_CERT": "/me.pem"}),
        ({"cert": str(ROOT)}, {"SSL_CERT_DIR": str(ROOT)}),
        ({"proxy": "http://p:1"}, {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://p:1"}),
        ({"no-cache-dir": "true"}, {"UV_NO_CACHE": "1"}),
        ({"keyring-provider": "subprocess"}, {"UV_KEYRING_PROVIDER": "subprocess"}),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_of_pip_in_words_of_uv(set_up, options, variables) -> None:
    translated = set_up.for_uv(options, {})
    assert {name: translated[name] for name in variables} == variables


def test_certificates_come_from_where_pip_takes_them(set_up) -> None:
    bundles = {"REQUESTS_CA_BUNDLE": "/requests.pem", "SSL_CERT_FILE": "/openssl.pem"}
    assert set_up.for_uv({}, bundles)["SSL_CERT_FILE"] == "/requests.pem"
    assert set_up.for_uv({"cert": "/pip.pem"}, bundles)["SSL_CERT_FILE"] == "/pip.pem"
    assert "UV_SYSTEM_CERTS" not in set_up.for_uv({"cert": "/pip.pem"}, {})


def test_what_uv_is_told_itself_holds(set_up) -> None:
    theirs = {"UV_DEFAULT_INDEX": "https://uv/simple", "UV_CONSTRAINT": "/uv.txt", "UV_SYSTEM_PYTHON": "1"}  # fmt: skip
    translated = set_up.for_uv(
        {"index-url": "https://pip/simple", "constraint": "/pip.txt"}, theirs
    )
    assert translated["UV_DEFAULT_INDEX"] == "https://uv/simple"
    assert translated["UV_CONSTRAINT"] == "constraints.txt /pip.txt /uv.txt"
    assert "UV_SYSTEM_PYTHON" not in translated


# the build of torch


class Sources:
    """An installer that finds requirements: each where the options have this `find-links`."""

    def __init__(self, found: dict[str, str]) -> None:
        self.found = found

    def __call__(self, options: dict[str, str]) -> Sources:
        self.links = options.get("find-links", "")
        return self

    def finds(self, requirement: str) -> bool:
        return self.trial(requirement).returncode == 0

    def trial(self, requirement: str) -> subprocess.CompletedProcess[str]:
        missing = self.found.get(requirement) != self.links
        return subprocess.CompletedProcess([], missing, "", "no http://me:secret@index")


@pytest.fixture
def linux(set_up, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(set_up, "has_nvidia", lambda: False)
    monkeypatch.setattr(set_up, "exact", lambda name: "2.0")
    return set_up


def test_without_a_gpu_the_build_for_the_cpu_comes_from_pips_sources(linux) -> None:
    assert linux.torch_for(Sources({"torch==2.0+cpu": ""}), {}, "auto") == ("torch==2.0+cpu", {})


def test_or_from_pytorch(linux) -> None:
    torch, options = linux.torch_for(
        Sources({"torch==2.0+cpu": linux.CPU_BUILDS}), {"retries": "3"}, "auto"
    )
    assert torch == "torch==2.0+cpu"
    assert options == {"retries": "3", "find-links": linux.CPU_BUILDS}


def test_or_it_is_the_usual_one_unless_cpu_was_asked_for(linux, capsys) -> None:
    usual = Sources({"torch==2.0": ""})
    assert linux.torch_for(usual, {}, "auto") == ("torch==2.0", {})
    assert "gigabytes" in capsys.readouterr().out
    assert linux.torch_for(usual, {}, "cpu") is None


def test_sources_that_have_no_torch_at_all_are_named_without_secrets(linux, capsys) -> None:
    assert linux.torch_for(Sources({}), {}, "auto") is None
    said = capsys.readouterr().out
    assert "****@index" in said
    assert "secret" not in said


def test_with_a_gpu_it_is_a_build_for_cuda(linux, monkeypatch: pytest.MonkeyPatch) -> None:
    assert linux.torch_for(Sources({"torch==2.0+cpu": ""}), {}, "cuda")[0] == "torch==2.0,!=2.0+cpu"
    monkeypatch.setattr(linux, "has_nvidia", lambda: True)
    assert linux.torch_for(Sources({"torch==2.0+cpu": ""}), {}, "auto")[0] == "torch==2.0,!=2.0+cpu"
    assert linux.torch_for(Sources({"torch==2.0+cpu": ""}), {}, "cpu")[0] == "torch==2.0+cpu"


# uv itself


def wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """`host:port` of an index behind a login that has `hone-probe`, and nothing else."""
    made = wheel(tmp_path, "hone_probe", "1.0")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = "Basic " + base64.b64encode(LOGIN.encode()).decode()
            link = f'<a href="/files/{made.name}">{made.name}</a>'.encode()
            pages = {"/simple/hone-probe/": link, f"/files/{made.name}": made.read_bytes()}
            body = pages.get(self.path, b"")
            if self.headers.get("Authorization") != allowed:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
            else:
                self.send_response(200 if body else 404)
            self.send_header(
                "Content-Type", "text/html" if self.path[-1] == "/" else "application/zip"
            )
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


needs_uv = pytest.mark.skipif(
    not (Path(sys.prefix) / "bin" / "uv").exists(), reason="this environment was made without uv"
)


@needs_uv
def test_uv_logs_in_and_keeps_the_secret(set_up, index: str, tmp_path: Path, capsys) -> None:
    options = {
        "index-url": f"http://{LOGIN}@{index}/simple",
        "extra-index-url": f"{tmp_path.as_uri()}/nowhere file:///not/there",
        "find-links": "/not/there",
        "no-cache-dir": "1",
    }
    uv = set_up.uv(options)
    assert uv.trial("hone-probe==1.0").returncode == 0
    for requirement, login in (("hone-probe==2.0", LOGIN), ("hone-probe", "me:wrongsecret")):
        uv = set_up.uv({**options, "index-url": f"http://{login}@{index}/simple"})
        assert set_up.shown([*uv.command, "--dry-run", requirement], uv.variables)
    said = capsys.readouterr().out
    assert "hone-probe" in said
    assert "secret" not in said


@needs_uv
def test_uv_takes_the_best_of_all_sources_as_pip_does(set_up, tmp_path: Path) -> None:
    for folder, version in (("index/hone-probe", "1.0"), ("links", "1.0+cpu")):
        (tmp_path / folder).mkdir(parents=True)
        made = wheel(tmp_path / folder, "hone_probe", version)
        (tmp_path / folder / "index.html").write_text(f'<a href="{made.name}">{made.name}</a>')
    options = {
        "index-url": (tmp_path / "index").as_uri(), "find-links": str(tmp_path / "links"),
        "no-cache-dir": "1",
    }  # fmt: skip
    for requirement, expected in (("==1.0", "1.0+cpu"), ("==1.0,!=1.0+cpu", "1.0")):
        for installer in (set_up.uv(options), set_up.pip(options)):
            command = [*installer.command, "--dry-run", f"hone-probe{requirement}"]
            done = set_up.captured(
                [word for word in command if word != "--quiet"], installer.variables
            )
            assert re.search(
                rf"hone[-_]probe(==|-){re.escape(expected)}\n", done.stdout + done.stderr
            )


# what is shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Resolved 237 packages in 2.08s", True),
        ("Downloading ray (75.6MiB)", True),
        ("Downloading triton (1.1GiB)", True),
        ("Downloading pygments (1.2MiB)", False),
        (" + torch==2.13.0+cpu", False),
        ("Using Python 3.11.7 environment at: .venv", False),
        ("error: Failed to fetch: https://m/simple/torch/", True),
        ("  cause: Connection refused (os error 111)", True),
    ],
)
def test_a_log_gets_the_lines_that_tell_something(set_up, line: str, shown: bool) -> None:
    assert set_up.tells_something(line + "\n") is shown


def test_a_failure_is_told_and_leaves_no_stamp(tmp_path: Path) -> None:
    copied = ("Makefile", "pyproject.toml", "constraints.txt", "__init__.py", ".ci/set_up.py")
    (tmp_path / ".ci").mkdir()
    for name in copied:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", "HONE_TORCH=none", "env"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "HONE_TORCH is 'none'" in done.stderr
    assert "set it to auto, cpu or cuda" in done.stderr
    assert not (tmp_path / ".venv" / ".made-from").exists()


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "quick", "env"):
        assert f"make {target}" in listed


def test_own_modules_are_compiled_where_python_does_not_do_it(
    set_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    for module in ("__init__", "room/__init__", "room/inner/part", "other/not_ours"):
        path = tmp_path / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    compiled = lambda: {p.parent.parent.name for p in tmp_path.rglob("*.pyc")}  # noqa: E731
    set_up.compile_own({})
    assert compiled() == set()
    set_up.compile_own({**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert compiled() == {tmp_path.name, "room", "inner"}
