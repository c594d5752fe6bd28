"""Environments of their own."""

from __future__ import annotations

from pathlib import Path

from prefect_hone.recipe.targets import all_targets
from prefect_hone.runtimes.isolated.environment import environment, requirement


def test_environments_are_told_apart_by_their_requirements(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HONE_ENVIRONMENTS", str(tmp_path))
    names = {environment(name).folder.name for name in ("jax", "executorch", "tensorflow")}
    assert len(names) == 3
    assert not environment("jax").is_made


def test_they_say_which_version_they_have() -> None:
    for target in all_targets():
        if target.environment is not None:
            assert "==" in requirement(target.environment, target.runtime), target.kind
    assert requirement("jax", "no-such-thing") == "no-such-thing"
