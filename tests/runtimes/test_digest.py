"""The sha256 of a folder: of its files and where they lie, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_hone.ray_workers.store.artifacts import describe
from prefect_hone.runtimes.digest import digests_in, tree_digest


def folder(place: Path) -> Path:
    (place / "deep").mkdir(parents=True)
    (place / "a.txt").write_text("a")
    (place / "deep" / "b.txt").write_text("b")
    return place


def test_it_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    digest = tree_digest(digests_in(one))
    assert digest == tree_digest(digests_in(other)) == describe(other, "x", "").sha256
    (other / "a.txt").write_text("A")
    assert tree_digest(digests_in(other)) != digest
    (one / "a.txt").rename(one / "c.txt")
    assert tree_digest(digests_in(one)) != digest


def test_nothing_and_links_have_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be empty"):
        digests_in(tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="can't hold a link: link"):
        digests_in(tmp_path)
