"""Candidates against today's champion, on the same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prefect_hone.ray_workers.dispatch import StepJob, execute
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.ray_workers.store.file_names import STATISTICS
from prefect_hone.recipe.errors import StepFailed
from prefect_hone.recipe.factories import Allowed
from safetensors.numpy import save_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def kept(store: Store, folder: Path, right: list[int]) -> Artifact:
    """Statistics of a model that has these samples right (1) or wrong (0)."""
    made = folder / f"made-{len(list(folder.iterdir()))}"
    made.mkdir()
    rows = np.array(right, np.float64)[:, None]
    save_file({"statistics": rows}, str(made / STATISTICS))
    return store.put(made, "statistics")


def compared(store: Store, **inputs: Artifact) -> dict[str, dict[str, float]]:
    spec = {"metric": "accuracy", "higher_is_better": True, "champion": "3", "digest": "d"}
    job = StepJob(
        function="prefect_hone.tasks.validate.compare:compare", key="k", lineage="k", spec=spec,
        inputs=inputs, code=None, allowed=Allowed(), store=store.url, cache=str(store.cache),
    )  # fmt: skip
    return execute(job, lambda _: None).facts["drops"]


def test_a_drop_is_paired_by_sample(store: Store, tmp_path: Path) -> None:
    right = [1] * 90 + [0] * 10
    champion = kept(store, tmp_path, right)
    other = kept(store, tmp_path, [1] * 88 + [0] * 12)
    found = compared(store, champion=champion, same=kept(store, tmp_path, right), other=other)
    assert set(found) == {"same", "other"}
    assert found["same"]["quality/drop_from_champion"] == 0
    drop = found["other"]
    assert drop["quality/drop_from_champion"] == pytest.approx(0.02)
    low, high = (drop[f"quality/drop_from_champion_{end}"] for end in ("low", "high"))
    assert low < 0.02 < high
    assert high - low < 0.1, "two models of 90 % judged apart would be unsure by 0.17"


def test_other_samples_are_refused(store: Store, tmp_path: Path) -> None:
    champion, other = kept(store, tmp_path, [1] * 10), kept(store, tmp_path, [1] * 9)
    with pytest.raises(StepFailed, match="on 10 samples and a candidate on 9"):
        compared(store, champion=champion, other=other)
