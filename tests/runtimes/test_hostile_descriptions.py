"""What describes a model comes with it, and may be anything: a sentence, never a crash or a loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.runtimes.compiled_artifact import SETTINGS, CompiledArtifact
from prefect_hone.runtimes.errors import RuntimeFailed
from prefect_hone.runtimes.served_model import DESCRIPTION, ModelDescription

GOOD = {"sha256": "0" * 64, "inputs": ["input"], "options": {"threads": 1}}
ARTIFACT = {"runtime": "onnxruntime", "inputs": ["a"], "batch_sizes": [1, 8], "settings": {}}


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": []}, {"inputs": "input"}, {"inputs": [1]}, {"inputs": None},
        {"options": None}, {"options": []}, {"options": {}}, {"sha256": None},
        {"options": {"threads": 10**6}}, {"options": {"threads": -1}},
        {"options": {"threads": "1"}}, {"options": {"threads": True}},
    ],
)  # fmt: skip
def test_a_crafted_hone_json(tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / DESCRIPTION).write_text(json.dumps({**GOOD, **changed}))
    with pytest.raises(RuntimeFailed, match="is not what a registered model has there"):
        ModelDescription.read(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"runtime": 3}, {"inputs": None}, {"inputs": [None]}, {"settings": []},
        {"batch_sizes": []}, {"batch_sizes": [0]}, {"batch_sizes": [-1]}, {"batch_sizes": "8"},
        {"batch_sizes": [1.5]}, {"batch_sizes": [10**30]}, {"batch_sizes": [True]},
    ],
)  # fmt: skip
def test_a_crafted_settings_json(tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / SETTINGS).write_text(json.dumps({**ARTIFACT, **changed}))
    with pytest.raises(RuntimeFailed, match="is not what a compiled artifact has there"):
        CompiledArtifact.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\ufeff{}", '"x"'])
def test_what_is_no_description(tmp_path: Path, text: str) -> None:
    (tmp_path / DESCRIPTION).write_text(text, encoding="utf-8")
    (tmp_path / SETTINGS).write_text(text, encoding="utf-8")
    with pytest.raises(RuntimeFailed):
        ModelDescription.read(tmp_path)
    with pytest.raises(RuntimeFailed):
        CompiledArtifact.read(tmp_path)


def test_good_ones_are_read(tmp_path: Path) -> None:
    (tmp_path / DESCRIPTION).write_text(json.dumps(GOOD))
    (tmp_path / SETTINGS).write_text(json.dumps(ARTIFACT))
    assert ModelDescription.read(tmp_path).inputs == ("input",)
    assert CompiledArtifact.read(tmp_path).batch_sizes == (1, 8)
