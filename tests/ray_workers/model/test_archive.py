"""Archives that unpack to more than they are, or that two readers read in two ways."""

from __future__ import annotations

import struct
import warnings
import zipfile
from pathlib import Path

import psutil
import pytest
from prefect_hone.ray_workers.model import archive
from prefect_hone.recipe.errors import InputError


def read(path: Path) -> list[str]:
    with archive.opened(path, "model", lambda _name, _start: None) as (_, members):
        return list(members)


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


def test_a_plain_archive_is_read(tmp_path: Path) -> None:
    assert read(packed(tmp_path / "a.pt2", {"a": b"x" * 999, "b/c": b""})) == ["a", "b/c"]


def claiming(path: Path, sizes: list[int]) -> Path:
    """An archive whose members say that they unpack to these sizes."""
    packed(path, {str(i): bytes(range(256)) * (size // 51_200) for i, size in enumerate(sizes)})
    content = bytearray(path.read_bytes())
    place = 0
    for size in sizes:
        place = content.index(b"PK\x01\x02", place)
        struct.pack_into("<I", content, place + 20, size // 150)
        struct.pack_into("<I", content, place + 24, size)
        place += 4
    path.write_bytes(content)
    return path


def test_members_below_the_ratio_are_a_bomb_together(tmp_path: Path) -> None:
    path = claiming(tmp_path / "bomb.pt2", [320_000_000] * 10)
    with pytest.raises(InputError, match="its members unpack to 3,200,000,000 bytes from"):
        read(path)


def test_an_archive_that_does_not_fit_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "large.pt2", {"a": b"x" * 5000}, zipfile.ZIP_STORED)
    memory = psutil.virtual_memory()._replace(available=4000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(InputError, match="5,000 bytes, and 4,000 bytes of memory are available"):
        read(path)


def test_a_member_that_says_too_little_of_itself_is_not_unpacked_further(tmp_path: Path) -> None:
    path = packed(tmp_path / "liar.pt2", {"a": b"x" * 100_000})
    content = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", content, content.index(sign) + offset, 10)
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match="it is no zip file, or it is cut off"),
        archive.opened(path, "model", lambda _name, _start: None) as (opened, members),
    ):
        opened.read(members["a"])


@pytest.mark.parametrize(
    ("name", "said"),
    [("/etc/passwd", "leads out"), ("../a", "leads out"), ("a/../../b", "leads out"),
     ("a\\b", "leads out")],
)  # fmt: skip
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(packed(tmp_path / "a.pt2", {name: b"x"}))


def test_a_member_may_be_there_once(tmp_path: Path) -> None:
    path = tmp_path / "twice.pt2"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as made:
        warnings.simplefilter("ignore")
        made.writestr("a", b"1")
        made.writestr("a", b"2")
    with pytest.raises(InputError, match="'a' is there twice"):
        read(path)


def test_other_ways_of_packing_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.pt2", {"a": b"x" * 100}, zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="packed in an unusual way"):
        read(path)
    path = packed(tmp_path / "b.pt2", {"a": b"x" * 100}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="or encrypted"):
        read(path)


def test_an_unknown_member_is_refused_by_its_name(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.pt2", {"a": b"x", "evil\n": b"\x80pickle"})
    with (
        pytest.raises(InputError, match=r"'evil\?' starts with 128"),
        archive.opened(
            path,
            "model",
            lambda name, start: None if name == "a" else f"starts with {start[0] if start else 0}",
        ),
    ):
        pass
