"""No credential of a URL, a header, an option or the environment is in a text that is shown."""

from __future__ import annotations

import pytest
from prefect_hone.recipe.errors import HoneError, ServerUnreachable
from prefect_hone.recipe.library_messages import own_words, telling
from prefect_hone.recipe.showable import (
    HIDDEN,
    parted,
    remember,
    restored,
    showable,
    showable_data,
    without_user,
)

CANARY = "CANARY-7f3a9"

WITH_A_SECRET = [
    f"http://user:{CANARY}@host:5000/path",
    f"https://{CANARY}@host/path",
    f"see https://user:{CANARY}@host, which does not answer",
    f"'https://user:{CANARY}@[::1]:5000/x'",
    f"postgresql+psycopg2://user:{CANARY}@host:5432/mlflow",
    f"postgresql://user:p@ss{CANARY}@host/db",
    f"postgresql://user:pa/ss{CANARY}@host/db",
    f"postgresql://user:a?b#{CANARY}@host/db",
    f"s3://AKIA:{CANARY}@bucket/key",
    f"simplecache::s3://AKIA:{CANARY}@bucket/key",
    f"zip://inner.safetensors::https://user:{CANARY}@host/a.zip",
    f"ftp://user:{CANARY}@host",
    f"ray://user:{CANARY}@head:10001",
    f"RAY_ADDRESS=user:{CANARY}@head:6379",
    f"https://host/w.safetensors?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}",
    f"https://host/w?sv=2024&se=2030&sig={CANARY}%3D",
    f"https://host/w?token={CANARY}",
    f"https://host/w?version=3;access_token={CANARY}#top",
    f"https://host/w#access_token={CANARY}",
    f"https://host/w?apikey={CANARY}&x=1",
    f"https://host/w?Key-Pair-Id={CANARY}",
    f"https://host/w?opaque={CANARY}0123456789abcdefghij",
    f"mysql://host/db?password={CANARY}",
    f"Authorization: Basic {CANARY}",
    f"{{'Authorization': 'Bearer {CANARY}'}}",
    f"curl -H 'X-Api-Key: {CANARY}'",
    f"sent Bearer {CANARY}.abcdefgh",
    f"{{'key': 'AKIA', 'secret': '{CANARY}'}}",
    f'{{"account_key": "{CANARY}", "account_name": "me"}}',
    f"connect(host=h, password={CANARY}, port=3)",
    f"aws_secret_access_key={CANARY}",
    f"Cookie: session={CANARY}",
]


@pytest.mark.parametrize("text", WITH_A_SECRET)
def test_no_credential_is_shown(text: str) -> None:
    shown = showable(text)
    assert CANARY not in shown
    assert HIDDEN in shown
    assert showable(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/mlflow.db",
        "http://127.0.0.1:5000",
        "http://[::1]:5000/api",
        "models:/wine@champion",
        "github://owner:repo@main/w",
        "https://host/a@b/file.safetensors",
        "https://host/w?version=3&versionId=d41d8cd98f00b204e9800998ecf8427e&format=onnx",
        "zip://inner::simplecache::https://host/a.zip",
        "validate int8@openvino-cpu: 3 of 4",
        "quality.bits_per_token=1.43 (at most 1.5)",
        '{"bits_per_token": 1.43, "tokens": 3}',
        "the input 'token': shape (8, 16), expected (8,)",
        "inputs {'token': (8, 16), 'mask': torch.int64}",
        "it takes token=(8, 16), token=torch.int64 and token=f32[8, 16], but got token==None",
        "'token': int64 of (2, 5) in batch 1, (3, 5) in batch 2",
        "the cluster requires a token, and there is none",
        "set RAY_AUTH_TOKEN to the cluster's token: `ray get-auth-token` prints it",
        "got {'key': 'abc'}",
        "s3://bucket/artifacts/" + "0123456789abcdef" * 4,
    ],
)
def test_what_is_no_credential_is_shown_as_it_is(text: str) -> None:
    assert showable(text) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_PASSWORD", CANARY),
        ("MLFLOW_TRACKING_TOKEN", CANARY),
        ("PREFECT_API_KEY", CANARY),
        ("PREFECT_API_AUTH_STRING", f"admin:{CANARY}"),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("RAY_AUTH_TOKEN", CANARY),
        ("HF_TOKEN", CANARY),
        ("SOME_URL", f"https://user:{CANARY}@host/"),
    ],
)
def test_secrets_of_the_environment_are_known_by_their_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert showable(f"it said {CANARY}.") == f"it said {HIDDEN}."


def test_settings_that_are_named_like_secrets_are_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "TOKENIZERS_PARALLELISM": "disabled-here",
        "MAX_TOKENS": "100000",
        "RAY_AUTH_TOKEN_PATH": "/etc/tokens/ray",
        "USE_TOKEN": "disabled",
    }.items():
        monkeypatch.setenv(name, value)
    text = "100000 rows; disabled-here, disabled; /etc/tokens/ray"
    assert showable(text) == text


def test_an_error_never_holds_a_credential() -> None:
    url = f"http://user:{CANARY}@host"
    error = ServerUnreachable(f"{url} is away", where=f"MLFLOW_TRACKING_URI={url}", do=f"try {url}")
    for text in (str(error), repr(error.to_dict()), repr(error), repr(error.args)):
        assert CANARY not in text
    again = HoneError.from_dict({"type": "StepFailed", "what": url, "where": url, "do": url})
    assert CANARY not in str(again)
    assert CANARY not in str(error.renamed({"http://***@host": url}))
    assert CANARY not in telling(OSError(f"no route to {url}"))
    assert CANARY not in own_words(ValueError(f"no route to {url}"))


def test_a_recipe_is_parted_from_its_credentials_and_put_together_again() -> None:
    plain = {
        "weights": f"https://user:{CANARY}@host/w.safetensors",
        "args": {"path": f"s3://b/data?token={CANARY}", "token": CANARY, "width": 3},
        "urls": [f"https://host/{i}?sig={CANARY}{i}" for i in range(2)],
        "same": "https://host/w.safetensors",
    }
    shown, secrets = parted(plain)

    assert CANARY not in repr(shown)
    assert shown["same"] == plain["same"]
    assert len(set(secrets)) == 5, "no two places have the same text"
    assert restored(shown, secrets) == plain
    assert restored(f"{shown['weights']}/part", secrets) == f"{plain['weights']}/part"
    assert CANARY not in showable(f"the server said: {CANARY} is no user")  # it is remembered


def test_a_recipe_that_a_run_kept_says_that_its_credentials_are_gone() -> None:
    shown, _ = parted({"weights": f"https://user:{CANARY}@host/w"})
    with pytest.raises(ValueError, match=r"\*\*\*1@host"):
        parted(shown)


def test_plain_data_are_shown_without_secrets() -> None:
    data = {
        "uri": f"s3://a:{CANARY}@b",
        "password": CANARY,
        "count": 3,
        "list": [f"x://{CANARY}@h"],
    }
    assert showable_data(data) == {
        "uri": f"s3://{HIDDEN}@b", "password": HIDDEN, "count": 3, "list": [f"x://{HIDDEN}@h"],
    }  # fmt: skip


def test_a_user_and_a_password_are_taken_out_of_a_url() -> None:
    assert without_user("http://host/path") == ("http://host/path", None)
    assert without_user("http://me:p%40ss%2Fword@host/x") == ("http://host/x", ("me", "p@ss/word"))
    assert without_user("sqlite:///a@b") == ("sqlite:///a@b", None)


def test_short_values_are_not_searched_for() -> None:
    remember(["a"])
    assert showable("a cat") == "a cat"
