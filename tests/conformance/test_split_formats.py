"""Every format of splits goes through the suite that third parties use; Ray's in slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone import Data
from prefect_hone.ray_workers.data.formats import FORMATS
from prefect_hone.ray_workers.data.ray_datasets import RayDatasets
from prefect_hone.ray_workers.data.torch_datasets import TorchDatasets
from prefect_hone.testing.samples import rows
from prefect_hone.testing.split_formats import SplitFormatCase, SplitFormatTestSuite
from ray_training import cluster
from torch.utils.data import TensorDataset


def test_every_format_has_a_suite() -> None:
    assert {type(found) for found in FORMATS} == {RayDatasets, TorchDatasets}


class TestTorchDatasets(SplitFormatTestSuite):
    @pytest.fixture
    def case(self) -> SplitFormatCase:
        plain = rows()
        refused = Data(train=TensorDataset(torch.zeros(9, 2)), test=plain.test)
        return SplitFormatCase(plain, plain, refused)


@pytest.mark.slow
class TestRayDatasets(SplitFormatTestSuite):
    @pytest.fixture(scope="class")
    def ray_cluster(self) -> Iterator[Any]:
        with cluster(3) as made:
            yield made

    @pytest.fixture
    def case(self, ray_cluster: Any) -> SplitFormatCase:
        import ray.data

        plain = rows()
        plain = Data(train=plain.train, test=plain.test, validation=plain.test)

        def dataset(split: Any) -> Any:
            x = np.stack([sample[0].numpy() for sample in split])
            y = np.array([int(sample[1]) for sample in split])
            return ray.data.from_items(
                [{"x": a, "y": b} for a, b in zip(x, y, strict=True)], override_num_blocks=4
            )

        splits = {name: dataset(getattr(plain, name)) for name in ("train", "test", "validation")}
        columns = {"inputs": "x", "target": "y", "shuffle_rows": 32}
        refused = Data(**splits, inputs="z", target="y")
        return SplitFormatCase(Data(**splits, **columns), plain, refused)
