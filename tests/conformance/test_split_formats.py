"""Every format of splits goes through the suite that third parties use; Ray's in slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from prefect_hone import Data
from prefect_hone.ray_workers.data.formats import FORMATS
from prefect_hone.ray_workers.data.iterable_datasets import IterableDatasets
from prefect_hone.ray_workers.data.ray_datasets import RayDatasets
from prefect_hone.ray_workers.data.torch_datasets import TorchDatasets
from prefect_hone.testing.samples import rows
from prefect_hone.testing.split_formats import SplitFormatCase, SplitFormatTestSuite
from ray_training import cluster
from torch.utils.data import IterableDataset, TensorDataset


def test_every_format_has_a_suite() -> None:
    assert {type(found) for found in FORMATS} == {RayDatasets, IterableDatasets, TorchDatasets}


class TestTorchDatasets(SplitFormatTestSuite):
    @pytest.fixture
    def case(self) -> SplitFormatCase:
        plain = rows()
        refused = Data(train=TensorDataset(torch.zeros(9, 2)), test=plain.test)
        return SplitFormatCase(plain, plain, refused)


class Stream(IterableDataset[Any]):
    """Samples in an order of its own, without a length."""

    def __init__(self, samples: Any, fault: str = "") -> None:
        self.samples = samples
        self.fault = fault

    def __iter__(self) -> Iterator[Any]:
        if self.fault:
            raise ValueError(self.fault)
        return (self.samples[i] for i in range(len(self.samples)))


class TestIterableDatasets(SplitFormatTestSuite):
    @pytest.fixture
    def case(self) -> SplitFormatCase:
        plain = rows()
        data = Data(train=Stream(plain.train), test=Stream(plain.test))
        refused = Data(train=Stream(plain.train, "no such file"), test=plain.test)
        return SplitFormatCase(data, plain, refused)


@pytest.mark.nightly
class TestRayDatasets(SplitFormatTestSuite):
    @pytest.fixture(scope="class")
    def ray_cluster(self) -> Iterator[Any]:
        with cluster(3) as made:
            yield made

    @pytest.fixture
    def case(self, ray_cluster: Any) -> SplitFormatCase:
        import ray.data

        plain = rows()
        plain = Data(train=plain.train, test=plain.test, validation=rows().test)

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
