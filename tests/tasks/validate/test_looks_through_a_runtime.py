"""Robustness and explanations as steps of a run, through the runtime of a candidate."""

from __future__ import annotations

import numpy as np
import pytest
from prefect_hone.tasks.specs.explanation import ExplainedFacts, ExplanationFacts
from prefect_hone.tasks.specs.robustness import RobustnessFacts
from prefect_hone.testing.workshop import SAMPLES, Workshop
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def test_a_candidate_is_compared_with_the_trained_model(workshop: Workshop) -> None:
    layout = workshop.lay_out(workshop.recipe(f"{SAMPLES}:conv_net"))
    corrupted, explained = layout.shared.corrupted, layout.shared.explained
    assert corrupted is not None
    assert explained is not None
    rows = load_file(corrupted.handle.folder("statistics") / "statistics.safetensors")
    robustness, explanation = layout.candidates[0].looks
    facts = robustness.done.facts_as(RobustnessFacts)
    assert len(facts.conditions) == len(rows) >= 3
    for one in facts.conditions:
        assert one.before == pytest.approx(rows[f"{one.corruption}-{one.strength}"].mean())
        assert (one.after, one.drop) == pytest.approx((one.before, 0))
    assert robustness.done.metrics["robustness/worst_drop_high"] > 0
    assert explanation.done.metrics["explanation/agreement"] > 0.99
    trained = explained.handle.done.facts_as(ExplainedFacts).shown
    mine = explanation.done.facts_as(ExplanationFacts).shown
    assert [one.index for one in mine] == [one.index for one in trained]
    np.testing.assert_allclose([m.values for m in mine], [t.values for t in trained], atol=0.01)
    assert all(one.sample for one in trained)
    assert not any(one.sample for one in mine), "a sample is kept once"
