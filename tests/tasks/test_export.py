"""Inputs and outputs as they are: lengths that vary and several outputs, through all steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from prefect_hone.ray_workers.model.axes import read_axes, read_batches
from prefect_hone.ray_workers.runtime_process import RuntimeProcess
from prefect_hone.recipe.errors import InputError, StepFailed
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.specs.check import CheckFacts
from prefect_hone.tasks.specs.validate import ValidateSpec
from prefect_hone.testing.workshop import LaidStep, Workshop

CODE = """
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from prefect_hone import Data


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.last = nn.Linear(8, 2)

    def forward(self, tokens, mask):
        hidden = self.recurrent(self.embed(tokens))[0] * mask.unsqueeze(-1)
        pooled = hidden.sum(1) / mask.sum(1, keepdim=True)
        return {"hidden": hidden, "logits": self.last(pooled), "longest": mask.sum(1).long()}


def text():
    torch.manual_seed(0)
    return Text()


class Loop(Text):
    def forward(self, tokens, mask):
        found = []
        for row in self.embed(tokens):
            found.append(self.last(row.mean(0)))
        return torch.stack(found)


def loop():
    torch.manual_seed(0)
    return Loop()


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.last(left), self.last(right)


def pair():
    torch.manual_seed(0)
    return Pair()


def pairs():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    rows = [((row, -row), int(row[0] > 0)) for row in x]
    return Data(train=rows[10:], test=rows[:10])


def padded(samples):
    rows, targets = zip(*samples)
    tokens = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
    return {"tokens": tokens, "mask": mask}, torch.tensor(targets)


def texts(shortest=4, longest=20, count=60):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    rows = [torch.randint(1, 30, (n,), generator=generator) for n in sizes]
    samples = [(row, int(row[0] > 15)) for row in rows]
    return Data(train=samples[20:], test=samples[:20], collate=padded)
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    code = tmp_path_factory.mktemp("code")
    (code / "texts.py").write_text(CODE)
    return Workshop(tmp_path_factory.mktemp("workshop"), code=code)


def recipe(model: str = "text", data: str = "texts", **fields: Any) -> Recipe:
    more = fields.pop("model_fields", {})
    return Recipe.model_validate({
        "name": "texts",
        "model": {"factory": f"texts:{model}", **more},
        "data": {"factory": f"texts:{data}", "args": fields.pop("data_args", {})},
        "train": {"epochs": 0, "batch_size": 4},
        "targets": ["onnxruntime-cpu"],
        "benchmark": {"batch_sizes": [1, 4]},
        "registry": {"model": "texts"},
        **fields,
    })  # fmt: skip


def outputs_of(workshop: Workshop, step: LaidStep, inputs: dict[str, np.ndarray]) -> Any:
    spec = step.call.spec
    assert isinstance(spec, ValidateSpec)
    folder = step.inputs["model"][0].folder("model")
    with RuntimeProcess(spec.loader, folder, workshop.loader_options(spec.options)) as runtime:
        runtime.wait_loaded()
        return runtime.outputs(inputs)


@pytest.mark.parametrize(
    "target",
    ["onnxruntime-cpu", "openvino-cpu", pytest.param("inductor-cpu", marks=pytest.mark.nightly)],
)
def test_texts_of_any_length_go_all_the_way_with_all_outputs(
    workshop: Workshop, target: str
) -> None:
    if target == "openvino-cpu":
        pytest.importorskip("openvino")
    layout = workshop.lay_out(recipe(targets=[target]))
    facts = layout.check.done.facts_as(CheckFacts)
    assert facts.varying == ("axis 1 of 'tokens' (4 to 20)", "axis 1 of 'mask' (4 to 20)")
    assert facts.inputs["tokens"].shape == (-1,)
    assert list(facts.outputs) == ["logits", "hidden", "longest"]
    assert facts.outputs["hidden"].shape == (-1, 8)
    graph = onnx.load(layout.export.folder("graph") / "model.onnx").graph
    sizes = [[d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.input]
    assert sizes == [["batch", "tokens_1"], ["batch", "tokens_1"]], "one axis, named once"
    assert "LSTM" in [node.op_type for node in graph.node], "not unrolled"
    validated = layout.candidates[0].validated
    assert validated is not None
    metrics = validated.done.metrics
    assert metrics["parity/max_abs_error"] < 1e-5
    assert metrics["parity/hidden/max_abs_error"] < 1e-5
    for length in (1, 33):
        tokens, mask = np.ones((3, length), np.int64), np.ones((3, length), np.float32)
        found = outputs_of(workshop, validated, {"tokens": tokens, "mask": mask})
        assert list(found) == ["logits", "hidden", "longest"]
        assert found["hidden"].shape == (3, length, 8)
        assert found["longest"].tolist() == [length] * 3


def test_timing_gets_batches_at_their_own_lengths(workshop: Workshop) -> None:
    folder = workshop.lay_out(recipe()).check.folder("samples")
    lengths = {b["tokens"].shape[1] for b in read_batches(folder, 1)}
    assert len(lengths) > 3
    assert all(len(b["tokens"]) == 4 for b in read_batches(folder, 4))
    assert {axis.name for axis in read_axes(folder)} == {"tokens_1"}


def test_an_axis_can_be_declared_that_does_not_vary_in_the_data(workshop: Workshop) -> None:
    fields = {
        "model_fields": {"dynamic_axes": {"tokens": {1: "length"}, "mask": {1: "length"}}},
        "data_args": {"shortest": 8, "longest": 8},
    }
    made = recipe(**fields)
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    layout = workshop.lay_out(made)
    graph = onnx.load(layout.export.folder("graph") / "model.onnx").graph
    assert [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]
    wrong = recipe(model_fields={"dynamic_axes": {"words": {1: "length"}}})
    with pytest.raises(InputError, match=r"no input .words.: known: mask, tokens"):
        workshop.lay_out(wrong).check.run()


def test_a_loop_over_samples_is_refused_at_the_export_by_its_line(workshop: Workshop) -> None:
    with pytest.raises(StepFailed, match="the batch axis can't vary") as refused:
        workshop.lay_out(recipe("loop")).export.run()
    line = CODE[: CODE.index("for row in")].count("\n") + 1
    assert refused.value.where == f"texts.py:{line} in forward"


def test_a_target_of_fixed_shapes_says_so(workshop: Workshop) -> None:
    compiled = workshop.lay_out(recipe(targets=["xla"])).candidates[0].compiled
    assert compiled is not None
    with pytest.raises(StepFailed) as refused:
        compiled.run()
    assert refused.value.what == (
        "xla compiles programs of fixed shapes, and axis 1 of 'tokens' (4 to 20) varies in the data"
    )


@pytest.mark.parametrize(("chosen", "main"), [(None, "output_0"), ("output_1", "output_1")])
def test_a_tuple_goes_in_and_the_chosen_output_is_judged(
    workshop: Workshop, chosen: str | None, main: str
) -> None:
    layout = workshop.lay_out(recipe("pair", "pairs", model_fields={"output": chosen}))
    validated = layout.candidates[0].validated
    assert validated is not None
    metrics = validated.done.metrics
    assert metrics["parity/max_abs_error"] < 1e-5
    x = np.eye(4, dtype=np.float32)
    found = outputs_of(workshop, validated, {"input_0": x, "input_1": -x})
    assert next(iter(found)) == main
    assert set(found) == {"output_0", "output_1"}
    assert np.abs(found["output_0"] - found["output_1"]).max() > 0.1


def test_an_output_that_does_not_exist_is_refused(workshop: Workshop) -> None:
    wrong = recipe("pair", "pairs", model_fields={"output": "logits"})
    with pytest.raises(InputError, match="no output 'logits': known: output_0, output_1"):
        workshop.lay_out(wrong).check.run()
