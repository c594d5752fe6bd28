"""Every pass goes through the suite that third parties use; those that train, in slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from prefect_hone.ray_workers.cluster import Cluster
from prefect_hone.recipe.passes import Pass
from prefect_hone.testing.passes import PassCase, PassTestSuite
from prefect_hone.testing.workshop import SAMPLES, Workshop

CONV, ENCODER = f"{SAMPLES}:conv_net", f"{SAMPLES}:encoder"
CHANNELS = {"kind": "prune", "method": "channel", "ratio": 0.25}
INT8 = {"kind": "quantize", "scheme": "static-int8"}
INT4 = {"kind": "quantize", "scheme": "weight-int4", "group_size": 16}
NO_LAYER: dict[str, Any] = {"skip_layers": ["no-such-layer"]}

#: The class of each and what it is asked.
CASES = {
    "PruneChannels": PassCase(
        CHANNELS, 1.0, CONV, {**CHANNELS, **NO_LAYER}, packages=("torch_pruning",)
    ),
    "PruneMagnitude": PassCase(
        {"kind": "prune", "method": "magnitude", "ratio": 0.5},
        0.8,
        refused={"kind": "prune", "method": "magnitude", "ratio": 0.5, **NO_LAYER},
    ),
    "PruneTwoFour": PassCase(
        {"kind": "prune", "method": "2:4"},
        0.8,
        refused={"kind": "prune", "method": "2:4", **NO_LAYER},
    ),
    "PruneWidths": PassCase(
        {"kind": "prune", "method": "transformer", "heads": 0.5, "mlp": 0.5},
        1.0,
        ENCODER,
        {"kind": "prune", "method": "transformer", "heads": 0.5},
        f"{SAMPLES}:perceptron",
    ),
    "LowRank": PassCase(
        {"kind": "low-rank", "budget": 0.5},
        1.0,
        refused={"kind": "low-rank", "energy": 0.999999},
    ),
    "StaticInt8": PassCase(INT8, 0.2, refused={**INT8, **NO_LAYER}),
    "DynamicInt8": PassCase(
        {"kind": "quantize", "scheme": "dynamic-int8"},
        0.2,
        refused={"kind": "quantize", "scheme": "dynamic-int8", **NO_LAYER},
    ),
    "WeightOnly": PassCase(
        INT4, 0.4, refused={**INT4, "skip_layers": ["head"]}, refused_model=CONV, packages=("nncf",)
    ),
    "HalfFloat": PassCase({"kind": "quantize", "scheme": "fp16"}, 0.01),
    "Fp8": PassCase(
        {"kind": "quantize", "scheme": "fp8"},
        0.2,
        refused={"kind": "quantize", "scheme": "fp8", **NO_LAYER},
    ),
    "Fold": PassCase({"kind": "fold"}, 1e-5, CONV),
}
#: These train, on workers of their own.
TRAINED = {
    "DistillPass": PassCase(
        {"kind": "distill", "factory": f"{SAMPLES}:perceptron", "epochs": 1},
        2.0,
        fields={"train": {"epochs": 0, "batch_size": 32, "deterministic": True}},
    ),
    "QuantizationAware": PassCase(
        {"kind": "qat", "epochs": 1},
        1.0,
        packages=("torchao",),
        fields={"train": {"epochs": 0, "batch_size": 32, "deterministic": True}},
    ),
}


def members(union: Any) -> list[type]:
    """The classes of a union, however its members are nested."""
    if isinstance(union, type):
        return [union]
    inner = get_args(union)
    return [cls for part in inner for cls in members(part)] if inner else []


def test_every_pass_has_a_case() -> None:
    names = {cls.__name__ for cls in members(Pass)}
    assert {*CASES, *TRAINED, "ImportedPass"} == names, "an ImportedPass: test_plugin.py"


@pytest.fixture(scope="module")
def shared_workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


class TestPasses(PassTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, shared_workshop: Workshop) -> Workshop:
        return shared_workshop

    @pytest.fixture(params=CASES)
    def case(self, request: pytest.FixtureRequest) -> PassCase:
        return CASES[request.param]


@pytest.mark.nightly
class TestTrainedPasses(PassTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
        cluster = Cluster()
        yield Workshop(tmp_path_factory.mktemp("workshop"), cluster=cluster)
        cluster.close()

    @pytest.fixture(params=TRAINED)
    def case(self, request: pytest.FixtureRequest) -> PassCase:
        return TRAINED[request.param]
