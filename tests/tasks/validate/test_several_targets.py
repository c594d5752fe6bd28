"""Several targets and outputs through all steps that judge, and through passes that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.specs.validate import ValidateFacts
from prefect_hone.testing.workshop import Workshop
from safetensors.numpy import load_file

OWN = {"metric": "odd_models:both_right", "outputs": "all", "higher_is_better": True}
INT8 = {"kind": "quantize", "scheme": "static-int8"}


@pytest.fixture(scope="module")
def workshop(shared_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("several"), code=shared_project)


def recipe(workshop: Workshop, quality: dict[str, Any], **data: Any) -> Recipe:
    return workshop.recipe(
        "odd_models:two_heads",
        data={"factory": "odd_data:several", **data},
        quality=quality,
        train={
            "epochs": 0, "batch_size": 32, "loss": "odd_models:weighted_heads",
            "loss_outputs": "all",
        },
        variants=[{"name": "int8", "passes": [{**INT8, "accuracy_control": {"at_most": 0.5}}]}],
    )  # fmt: skip


@pytest.mark.slow
def test_ones_own_metric_gets_all_of_them(workshop: Workshop) -> None:
    layout = workshop.lay_out(recipe(workshop, OWN, target="kind"))
    shared, (candidate,) = layout.shared, layout.candidates
    import odd_data
    import odd_models
    import torch

    test = odd_data.several().test
    x, y = torch.stack([x for x, _ in test]), [y for _, y in test]
    with torch.no_grad():
        outputs = {n: v.numpy() for n, v in odd_models.two_heads()(x).items()}
    targets = {n: np.array([float(t[n]) for t in y]) for n in ("kind", "price", "weight")}
    expected = float(np.mean(odd_models.both_right(outputs, targets)))
    name = "quality/both_right"
    assert shared.reference.handle.done.metrics[name] == pytest.approx(expected, abs=1e-5)
    validated = candidate.validated.done
    assert validated.metrics[name] == pytest.approx(expected, abs=0.05)
    assert validated.metrics["parity/price/sqnr_db"] > 20
    assert validated.facts_as(ValidateFacts).flips is None
    assert shared.corrupted is not None
    rows = load_file(shared.corrupted.handle.folder("statistics") / "statistics.safetensors")
    assert {len(value) for value in rows.values()} == {len(test)}
    for look in candidate.looks:
        assert look.done.metrics


def test_a_named_metric_and_groups_look_at_the_one_that_the_recipe_names(
    workshop: Workshop,
) -> None:
    by_kind = recipe(workshop, {"metric": "accuracy", "groups": ["label"]}, target="kind")
    layout = workshop.lay_out(by_kind)
    assert not [n for n in layout.shared.check.handle.done.notes if "several targets" in n]
    reference = layout.shared.reference.handle
    assert 0 <= reference.done.metrics["quality/accuracy"] <= 1
    assert '"groups":["0","1","2"]' in "".join(
        path.read_text().replace(" ", "") for path in reference.folder("groups").iterdir()
    )
    for target, said in ((None, "accuracy"), ("kid", r"no target 'kid': did you mean 'kind'")):
        wrong = workshop.lay_out(recipe(workshop, {"metric": "accuracy"}, target=target))
        with pytest.raises(InputError, match=said):
            assert wrong.shared.check.handle.done


def test_the_check_tells_which_target_a_named_metric_looks_at(workshop: Workshop) -> None:
    found = recipe(workshop, {"metric": "mae"})
    two = found.model_copy(update={"model": found.model.model_copy(update={"output": "price"})})
    (note,) = [
        n for n in workshop.lay_out(two).shared.check.handle.done.notes if "several targets" in n
    ]
    assert "price, weight, kind" in note
    assert "'price'" in note
    assert "data.target" in note


def test_targets_in_a_tuple(workshop: Workshop) -> None:
    quality = {"metric": "odd_models:tuple_right", "higher_is_better": True}
    found = recipe(workshop, quality, args={"form": "tuple"}, target="target_2")
    plain = found.train.model_copy(update={"loss": "cross_entropy", "loss_outputs": "main"})
    layout = workshop.lay_out(found.model_copy(update={"train": plain}))
    assert layout.shared.reference.handle.done.metrics["quality/tuple_right"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "nncf"])
def test_outputs_may_have_the_names_of_inputs(workshop: Workshop, engine: str) -> None:
    found = workshop.recipe(
        "odd_models:two_towers",
        data={"factory": "odd_data:pairs"},
        targets=["onnxruntime-cpu", "openvino-cpu"],
        variants=[{"name": "fp32"}, {"name": "int8", "passes": [{**INT8, "engine": engine}]}],
    )
    layout = workshop.lay_out(found)
    for candidate in layout.candidates:
        metrics = candidate.validated.done.metrics
        least = 100 if candidate.name.startswith("fp32") else 15
        for name in ("", "image/", "text/", "output/"):
            assert metrics[f"parity/{name}sqnr_db"] > least, (candidate.name, name)
