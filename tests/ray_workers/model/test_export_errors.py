"""What a model does that can't be exported is told in the user's words, by its line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.export_errors import as_export_error
from prefect_hone.ray_workers.model.onnx_export import to_onnx
from prefect_hone.ray_workers.model.tracing import trace
from prefect_hone.recipe.errors import StepFailed
from user_modules import user_module

MODELS = """
import torch
from torch import nn


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Number(nn.Module):
    def forward(self, x):
        return x * float(x.mean())


class Complex(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(torch.view_as_complex(x.reshape(-1, 2, 2, 2))).real


class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.airy_ai(x)


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2)


class Packs(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        lengths = torch.full((x.shape[0],), 1)
        rows = nn.utils.rnn.pack_padded_sequence(x.unsqueeze(1), lengths, batch_first=True)
        return self.recurrent(rows)[1][0]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> object:
    return user_module(tmp_path_factory.mktemp("code"), "export_models", MODELS)


@pytest.mark.parametrize(
    ("name", "says", "code"),
    [
        ("Branches", "branches on the values of a tensor", "if x.sum"),
        ("Complex", "complex numbers|linalg_eig", "torch.linalg.eigvals"),
        ("Unknown", "the operator aten.special_airy_ai has no ONNX form", "airy_ai"),
        ("Packs", "packs sequences", "self.recurrent(rows)"),
    ],
)
def test_a_cause_is_told_with_the_users_line(
    models: object, name: str, says: str, code: str
) -> None:
    model = getattr(models, name)().eval()
    with pytest.raises(StepFailed) as refused:
        to_onnx(model, trace(model, {"x": torch.randn(2, 8).numpy()}))
    line = MODELS[: MODELS.index(code)].count("\n") + 1
    assert re.search(says, refused.value.what), str(refused.value)
    assert refused.value.where == f"export_models.py:{line} in forward"
    assert refused.value.do
    assert "site-packages" not in str(refused.value)


@pytest.mark.parametrize("name", ["Number", "Numpy"])
def test_what_torch_can_trace_is_not_refused(models: object, name: str) -> None:
    model = getattr(models, name)().eval()
    assert to_onnx(model, trace(model, {"x": torch.randn(2, 8).numpy()})).graph.node


def test_the_line_of_a_library_is_told_where_only_the_traceback_has_it() -> None:
    source = (
        "def forward(x):\n    raise RuntimeError('Could not guard on data-dependent expression')"
    )
    names: dict[str, Any] = {}
    exec(compile(source, "/env/site-packages/transformers/long.py", "exec"), names)  # noqa: S102
    with pytest.raises(RuntimeError) as raised:
        names["forward"](0)
    told = as_export_error(raised.value)
    assert told.where == "transformers/long.py:2 in forward"
    assert "branches on the values of a tensor" in told.what
