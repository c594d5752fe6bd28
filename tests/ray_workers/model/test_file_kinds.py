"""What a file is, by its beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.model.file_kinds import safetensors_problem, safetensors_size
from safetensors.torch import save


@pytest.mark.parametrize("length", [1, 60, 68, 69, 100, 324])
def test_safetensors_of_every_length_of_header(tmp_path: Path, length: int) -> None:
    """The first byte is the header's length: that of a pickle, for one file in 32."""
    content = save({"a" * length: torch.zeros(2)})
    (tmp_path / "w.safetensors").write_bytes(content)
    assert safetensors_problem(tmp_path / "w.safetensors") is None
    assert safetensors_size(content) == safetensors_size(content[: len(content) - 8])
    assert safetensors_size(content) == len(content)
    assert safetensors_size(content[:20]) is None
    (tmp_path / "w.safetensors").write_bytes(content[:-3])
    assert "it is cut off" in str(safetensors_problem(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\x80\x04", "it is a pickle"),
        (b"\x80\x05\x95\x00\x00\x00\x00\x00\x00x", "it is a pickle"),
        (b"<html><body>not found", "it is a text file"),
        (b"\x00" * 40, "it is not a safetensors file"),
        ((3).to_bytes(8, "little") + b"{xx", "its header is not"),
        ((9).to_bytes(8, "little") + b'{"a": 1}\n', "its header is not"),
        ((10**8).to_bytes(8, "little") + b"{", "it is cut off"),
        ((10**9).to_bytes(8, "little") + b"{", "it is not a safetensors file"),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert said in str(safetensors_problem(tmp_path / "w.safetensors"))
