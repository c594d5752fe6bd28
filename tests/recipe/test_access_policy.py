"""What a recipe may reach, by its origin: nothing here opens a file or a connection."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.recipe.access_policy import AccessPolicy, Origin
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.showable import showable

FIELD = "model.weights"


@pytest.fixture(autouse=True)
def _no_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses by number are as the system reads them; names are these."""
    real = socket.getaddrinfo
    names = {"metadata.google.internal": "169.254.169.254", "models.team": "93.184.216.34",
             "rebound.example": "127.0.0.1", "mixed.example": "::ffff:169.254.169.254"}  # fmt: skip

    def known(host: str, port: Any, *rest: Any, **more: Any) -> Any:
        if host[-1].isalpha() and ":" not in host and not host.startswith("0x"):
            if host not in names and host != "localhost":
                raise socket.gaierror(host)
            host = names.get(host, "127.0.0.1")
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", known)


def policy(origin: Origin, *paths: str) -> AccessPolicy:
    return AccessPolicy(origin=origin, paths=paths)


@pytest.mark.parametrize("origin", [Origin.PARAMETER, Origin.EVENT])
@pytest.mark.parametrize(
    "given",
    [
        "/etc/passwd",
        "/root/.ssh/id_rsa",
        "~/.ssh/id_rsa",
        "../../../../etc/shadow",
        "{allowed}/../outside/w.safetensors",
        "{allowed}-beside/w.safetensors",
        "{allowed}/link",
        "{allowed}/folder/w.safetensors",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "file:///%65tc/passwd",
        "local:///etc/passwd",
        "simplecache::file:///etc/passwd",
        "filecache::s3://bucket/models/w",
        "zip://w.safetensors::file:///etc/secret.zip",
        "s3://bucket/models/w::file:///etc/passwd",
        "s3://bucket/models/../secret/w",
        "s3://bucket/models/%2e%2e/secret/w",
        "s3://bucket/models/%252e%252e/secret/w",
        "s3://bucket/models/..;/secret/w",
        "s3://bucket/models/w?x/../../secret",
        "s3://bucket/models-secret/w",
        "s3://other/models/w",
        "gs://bucket/models/w",
        "http://169.254.169.254/latest/meta-data",
        "https://models.team@evil.example/w",
        "https://models.team.evil.example/w",
        "https://models.team:8443/w",
        "github://owner:repo@main/w",
        "data:application/octet-stream;base64,AAAA",
        "w\x00.safetensors",
        "w" * 300,
        "w/" * 3_000,
        "~nobody-of-this-name/w",
    ],
)
def test_a_recipe_of_somebody_else_reads_only_what_is_listed(
    tmp_path: Path, origin: Origin, given: str
) -> None:
    allowed = tmp_path / "models"
    (tmp_path / "outside").mkdir()
    allowed.mkdir()
    (allowed / "link").symlink_to("/etc/passwd")
    (allowed / "folder").symlink_to(tmp_path / "outside")
    reach = policy(origin, str(allowed), "s3://bucket/models/", "https://models.team")
    with pytest.raises(InputError) as caught:
        reach.place(given.replace("{allowed}", str(allowed)), FIELD)
    said = str(caught.value)
    assert said.startswith(f"{FIELD}: ")
    assert "HONE_ALLOWED_PATHS" in said or "this is not a path" in said
    assert len(said.splitlines()) <= 2


@pytest.mark.parametrize("origin", list(Origin))
def test_what_is_listed_is_read(tmp_path: Path, origin: Origin) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    reach = policy(origin, str(tmp_path / "linked"), "s3://bucket/models", "https://models.team",
                   "simplecache::s3://bucket/models", "http://127.0.0.1:9000/models")  # fmt: skip
    for given, place in {
        f"{tmp_path}/linked/w": f"{tmp_path}/real/w",
        f"file://{tmp_path}/real/w": f"{tmp_path}/real/w",
        "s3://bucket/models/w": "s3://bucket/models/w",
        "https://MODELS.team/w": "https://MODELS.team/w",
        "simplecache::s3://bucket/models/w": "simplecache::s3://bucket/models/w",
        "http://127.0.0.1:9000/models/w": "http://127.0.0.1:9000/models/w",
    }.items():
        assert reach.place(given, FIELD) == place


def test_a_listed_chain_lends_no_longer_one() -> None:
    reach = policy(Origin.PARAMETER, "simplecache::s3://bucket")
    with pytest.raises(InputError, match="may not read"):
        reach.place("simplecache::s3://bucket/w::file:///etc/passwd", FIELD)


def test_nothing_is_listed_unless_the_environment_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HONE_ALLOWED_PATHS", raising=False)
    assert AccessPolicy.from_environment(Origin.PARAMETER).paths == ()
    monkeypatch.setenv("HONE_ALLOWED_PATHS", " /srv/models , s3://bucket ,")
    reach = AccessPolicy.from_environment(Origin.EVENT)
    assert reach.paths == ("/srv/models", "s3://bucket")
    assert reach.place("/srv/models/w", FIELD) == "/srv/models/w"


def test_a_person_reads_any_local_path_and_ordinary_urls(tmp_path: Path) -> None:
    reach = policy(Origin.COMMAND_LINE)
    (tmp_path / "latest").symlink_to(tmp_path / "w")
    assert reach.place("latest", FIELD, tmp_path) == f"{tmp_path}/latest"
    assert reach.file(tmp_path / "latest", FIELD) == tmp_path / "w"
    assert reach.place("/srv/w", FIELD, tmp_path) == "/srv/w"
    for url in ("s3://bucket/w", "https://models.team/w", "http://localhost:9000/w"):
        assert reach.place(url, FIELD, tmp_path) == url


@pytest.mark.parametrize(
    "given",
    [
        "simplecache::s3://bucket/w",
        "zip://w::s3://bucket/w.zip",
        "github://owner:repo@main/w",
        "reference://x",
        "http://169.254.169.254/latest/meta-data/iam",
        "http://2852039166/latest",
        "http://0xA9FEA9FE/latest",
        "http://[::ffff:169.254.169.254]/latest",
        "http://[fe80::1]/w",
        "http://metadata.google.internal/computeMetadata",
        "http://mixed.example/w",
        "http://0.0.0.0:8000/w",
        "http://100.100.100.200/latest",
        "ftp://169.254.169.254/w",
        "webhdfs://models.team:9870/w",
        "http://[64:ff9b::a9fe:a9fe]/latest",
        "http://[64:ff9b:1::a9fe:a9fe]/latest",
        "http://[::a9fe:a9fe]/latest",
        "http://[2002:a9fe:a9fe::1]/latest",
        "http://[2001:0:102:304:0:0:5601:5601]/latest",
        "http://[fd00:ec2::254]/latest",
        "http://[fd20:ce::254]/computeMetadata",
        "http://[bad/w",
    ],
)
def test_even_a_persons_recipe_reaches_no_metadata_and_no_url_within_a_url(given: str) -> None:
    with pytest.raises(InputError) as caught:
        policy(Origin.COMMAND_LINE).place(given, FIELD)
    assert str(caught.value).startswith(f"{FIELD}: {showable(given)}: ")


@pytest.mark.parametrize("url", ["http://rebound.example/w", "http://localhost/w"])
def test_loopback_is_for_a_person_or_by_name(url: str) -> None:
    reach = policy(Origin.PARAMETER, "http://rebound.example", "http://localhost")
    assert reach.place(url, FIELD) == url, "whoever listed it meant it"
    with pytest.raises(InputError, match="within this machine"):
        policy(Origin.EVENT).address("localhost", FIELD)


@pytest.mark.parametrize("uri", ["models:/digits/3", "models:/digits@champion", "runs:/ab12/model"])
def test_models_of_the_configured_server(uri: str) -> None:
    assert policy(Origin.EVENT).model_uri(uri, "model.source") == uri


@pytest.mark.parametrize(
    "uri",
    [
        "models://other-server/digits/3",
        "models:/../../etc",
        "runs:/ab12/../../cd34/secret",
        "runs:/ab12/x?y",
        "models:/a\nb/1",
        "mlflow-artifacts:/0/ab12",
        "models:",
    ],
)
def test_other_uris_are_no_models_of_it(uri: str) -> None:
    with pytest.raises(InputError, match="no model of the MLflow server"):
        policy(Origin.COMMAND_LINE).model_uri(uri, "model.source")


@pytest.mark.parametrize(
    ("location", "read"),
    [
        ("mlflow-artifacts:/0/ab12/artifacts/model", True),
        ("https://mlflow.team/api/2.0/mlflow-artifacts/artifacts/0", True),
        ("{own}/0/ab12/artifacts", True),
        ("file://{own}/0/ab12/artifacts", True),
        ("/etc", False),
        ("file:///root/.ssh", False),
        ("{own}/../../etc", False),
        ("s3://other/secrets", False),
        ("http://169.254.169.254/latest", False),
        ("mlflow-artifacts:/x::file:///etc", False),
        ("mlflow-artifacts://evil.example/0/ab12", False),
    ],
)
def test_where_a_registered_model_says_that_it_lies(
    tmp_path: Path, location: str, read: bool
) -> None:
    own = tmp_path / "mlartifacts"
    where = "model.source: models:/m/1"

    def ask() -> None:
        policy(Origin.EVENT).model_location(
            location.replace("{own}", str(own)), where, "https://mlflow.team", str(own)
        )

    if read:
        ask()
    else:
        with pytest.raises(InputError, match="may not read"):
            ask()


def test_the_file_of_a_recipe_that_a_parameter_names(tmp_path: Path) -> None:
    reach = policy(Origin.PARAMETER, str(tmp_path))
    assert reach.recipe_file(f"{tmp_path}/recipe.yaml", "recipe") == tmp_path / "recipe.yaml"
    for given in ("/etc/passwd", "https://models.team/recipe.yaml", "recipe.yaml"):
        with pytest.raises(InputError):
            reach.recipe_file(given, "recipe")
