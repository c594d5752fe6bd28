"""Any bytes as a file that describes a model are read or refused with a sentence."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import changed_bytes, changed_values, changes_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from prefect_hone.runtimes.circumstances import Circumstances
from prefect_hone.runtimes.compiled_artifact import SETTINGS, CompiledArtifact
from prefect_hone.runtimes.errors import RuntimeFailed
from prefect_hone.runtimes.manifest import MANIFEST, read_manifest
from prefect_hone.runtimes.proof import MOST_BYTES, Proof, Synthetic
from prefect_hone.runtimes.served_model import DESCRIPTION, ModelDescription

DESCRIBED = {"sha256": "0" * 64, "inputs": ["input"], "options": {"threads": 1}}
COMPILED = {"runtime": "onnxruntime", "inputs": ["a"], "batch_sizes": [1, 8], "settings": {}}
LISTED = {"files": {"data/model.onnx": "1" * 64}}
X = np.ones((2, 3), np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("described")


def read_all(folder: Path, content: bytes) -> None:
    for name in (DESCRIPTION, SETTINGS, MANIFEST):
        (folder / name).write_bytes(content)
    with contextlib.suppress(RuntimeFailed):
        assert 0 < ModelDescription.read(folder).options["threads"] < 10**6
    with contextlib.suppress(RuntimeFailed):
        CompiledArtifact.read(folder)
    with contextlib.suppress(ValueError):
        read_manifest(folder)


@fuzzed
@given(
    st.sampled_from([DESCRIBED, COMPILED, LISTED]).flatmap(
        lambda value: (
            changed_bytes(json.dumps(value).encode())
            | changes_of(value).map(lambda c: json.dumps(changed_values(value, c)).encode())
        )
    )
)
def test_any_description(folder: Path, content: bytes) -> None:
    read_all(folder, content)


def _proof(folder: Path, synthetic: bool) -> Path:
    place = folder / f"proof-{synthetic}"
    if not place.exists():
        drawn = (3, {"x": Synthetic.like(X, 2)}) if synthetic else None
        measured = Circumstances("x86_64", ("avx2",), {"onnxruntime": "1"}, 1)
        Proof.of({"x": X}, X, 40.0, measured).write(place, drawn)
    return place


def judged(place: Path) -> None:
    """A proof, or a sentence."""
    said = ""
    try:
        proof = Proof.read(place)
    except RuntimeFailed as error:
        said = str(error)
    else:
        proof.distance(X)
        assert sum(values.nbytes for values in proof.inputs.values()) <= 64 * MOST_BYTES
    assert len(said) < 1000


_WORDS = st.sampled_from(
    [-1, 0, 2**31, 2**63, 1e308, float("nan"), "O", "V8", "<U9", "float32", []]
)


@fuzzed
@given(st.data(), st.booleans())
def test_any_proof(folder: Path, data: st.DataObject, synthetic: bool) -> None:
    place = _proof(folder, synthetic) / "proof.json"
    good = place.read_text()
    said: Any = json.loads(good)
    changes = data.draw(changes_of(said) | changes_of(said, _WORDS))
    place.write_text(json.dumps(changed_values(said, changes)))
    try:
        judged(place.parent)
    finally:
        place.write_text(good)


@fuzzed
@given(st.data())
def test_any_array_of_a_proof(folder: Path, data: st.DataObject) -> None:
    place = _proof(folder, synthetic=False) / "input-0.npy"
    good = place.read_bytes()
    place.write_bytes(data.draw(changed_bytes(good)))
    try:
        judged(place.parent)
    finally:
        place.write_bytes(good)
