"""Every target goes through the suite that third parties use; those that take minutes, in slow tests."""

from __future__ import annotations

import pytest
from prefect_hone.recipe.targets import target_class, target_kinds
from prefect_hone.testing.targets import TargetCase, TargetTestSuite
from prefect_hone.testing.workshop import Workshop

QUICK = [kind for kind in target_kinds() if target_class(kind).takes == "graph"]
#: These compile the torch module, by a C++ compiler or in an environment of their own.
SLOW = [kind for kind in target_kinds() if kind not in QUICK]


@pytest.fixture(scope="module")
def shared_workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


class TestTargets(TargetTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, shared_workshop: Workshop) -> Workshop:
        return shared_workshop

    @pytest.fixture(params=QUICK)
    def case(self, request: pytest.FixtureRequest) -> TargetCase:
        return TargetCase(request.param)


@pytest.mark.nightly
class TestSlowTargets(TargetTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, shared_workshop: Workshop) -> Workshop:
        return shared_workshop

    @pytest.fixture(params=SLOW)
    def case(self, request: pytest.FixtureRequest) -> TargetCase:
        # AOTInductor has every operator of torch: what it has no kernel for, it calls.
        refused = {} if "inductor" not in request.param else {"refused_model": None}
        return TargetCase(request.param, **refused)
