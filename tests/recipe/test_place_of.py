"""Where an error is said to be: the model's own line, its layer, or the last line of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from prefect_hone.ray_workers.data.calling import call_model
from prefect_hone.recipe.errors import place_of
from torch import nn


def place_within(model: nn.Module, inputs: object) -> str | None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (any)
        call_model(model, inputs)
    return place_of(raised.value)


def test_torchs_own_layer_is_told_by_its_name() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    assert place_within(model, torch.ones(2, 3)) == "layer '1.1' (Linear)"
    assert place_within(nn.Linear(3, 2), torch.ones(2, 4)) == "the model (Linear)"


def test_the_line_of_a_models_library_is_told() -> None:
    from transformers import T5Config, T5Model

    model = T5Model(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias = nn.Embedding(32, 3)
    tokens = torch.ones(2, 3, dtype=torch.int64)
    found = place_within(model, {"input_ids": tokens, "decoder_input_ids": tokens})
    assert found is not None
    assert found.startswith("transformers/")


def test_the_users_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        return x.reshape(7, 7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_net

    assert place_within(my_net.Net(), torch.ones(2, 3)) == "my_net.py:6"
    del sys.modules["my_net"]


def test_outside_a_model_the_last_line_of_ours_is_told() -> None:
    with pytest.raises(ValueError, match="bins") as raised:
        fail()
    assert str(place_of(raised.value)).startswith("test_place_of.py:")


def fail() -> None:
    import numpy as np

    np.histogram([1.0], bins=0)
