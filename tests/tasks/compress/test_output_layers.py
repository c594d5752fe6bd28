"""Layers that compute outputs keep their widths, whichever runs last."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.data.calling import choose_output
from prefect_hone.tasks.compress.output_layers import Outputs

X = torch.randn(4, 13)


@pytest.mark.parametrize(
    ("chosen", "layers", "kept"),
    [
        ("classes", {"classes", "boxes"}, {"classes", "boxes"}),
        ("hidden", {"first", "second", "classes", "boxes"}, {"hidden", "classes", "boxes"}),
    ],
)
def test_the_nearest_layers_of_outputs_that_nothing_goes_on_with(
    chosen: str, layers: set[str], kept: set[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    from prunable_models import detector

    model = choose_output(detector(), chosen).eval()
    model.boxes.weight.requires_grad_(False)
    found = Outputs(model, X)
    assert set(found.layers) == layers
    assert set(found.shapes) == kept
    assert not model.boxes.weight.requires_grad
    outputs = model(X)
    assert found.changed(outputs) is None
    assert found.changed({**outputs, "boxes": outputs["boxes"][:, :8]}) == "boxes"
    assert found.changed({"classes": outputs["classes"], "hidden": outputs["hidden"]}) == "boxes"
