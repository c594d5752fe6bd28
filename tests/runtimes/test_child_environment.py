"""What a child process inherits: nothing that it could tell or misuse."""

from __future__ import annotations

import os

import pytest
from prefect_hone.runtimes.child_environment import empty, minimal, without_keys

SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HONE_STORE_KEY", "HONE_STORE_KEY_FILE",
    "HF_TOKEN", "RAY_AUTH_TOKEN", "PREFECT_API_KEY", "SOMETHING_OF_THE_USER", "LD_PRELOAD",
    "PYTHONSTARTUP", "GITHUB_TOKEN",
)  # fmt: skip


def test_a_child_of_ours_gets_what_it_needs_and_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = minimal()
    assert "canary" not in found.values()
    assert found["CUDA_VISIBLE_DEVICES"] == "0"
    assert "PATH" in found
    assert minimal(("PREFECT_",))["PREFECT_API_KEY"] == "canary"


def test_one_that_calls_the_users_code_gets_all_but_the_keys() -> None:
    given = {"MINE": "1", "HONE_STORE_KEY_FILE": "x", "RAY_AUTH_TOKEN": "x"}
    assert without_keys(given) == {"MINE": "1"}


def test_an_emptied_variable_is_there_for_a_thread_that_copies_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HONE_EMPTIED", "x")
    read = iter(os.environ)
    name = next(name for name in read if name == "HONE_EMPTIED")
    empty("HONE_EMPTIED")
    assert os.environ[name] == ""
    empty("HONE_NEVER_SET")
    assert "HONE_NEVER_SET" not in os.environ
