"""One step's gradients: micro-batches, weights and samples that only fill up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.training.objectives import supervised
from prefect_hone.ray_workers.training.parallel.axes import Axes
from prefect_hone.ray_workers.training.parallel.parallelize import Placed
from prefect_hone.ray_workers.training.step import MicroBatch, StepRunner, make_step_runner
from prefect_hone.recipe.training import Train
from torch import nn

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 0, 1, 1, 0])


def runner(model: nn.Module, scale: float | None = None, **train: Any) -> StepRunner:
    spec = Train.model_validate({"epochs": 1, "batch_size": 6, **train})
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    objective = supervised(nn.functional.cross_entropy)
    return make_step_runner(Placed([model], model), objective, spec, Axes.alone(), scaler)


def part(start: int, end: int, own: int | None = None, weight: float = 1.0) -> MicroBatch:
    return MicroBatch(X[start:end], Y[start:end], end - start if own is None else own, weight)


def test_parts_of_a_batch_give_the_whole_batchs_gradient() -> None:
    model = nn.Linear(3, 2)
    loss = nn.functional.cross_entropy(model(X), Y)
    loss.backward()
    expected = model.weight.grad.clone()
    model.zero_grad()
    parts = [part(0, 4, weight=4 / 6), part(4, 6, weight=2 / 6)]
    assert float(runner(model).train(parts)) == pytest.approx(float(loss), abs=1e-6)
    assert torch.allclose(model.weight.grad, expected, atol=1e-6)


def test_a_reader_without_samples_adds_nothing() -> None:
    model = nn.Linear(3, 2)
    assert float(runner(model).train([part(0, 1, own=0, weight=0.0)])) == 0
    assert not model.weight.grad.any(), "it is there, for the reduction"


def test_gradients_are_scaled_and_the_loss_is_not() -> None:
    plain, scaled = nn.Linear(3, 2), nn.Linear(3, 2)
    scaled.load_state_dict(plain.state_dict())
    loss = runner(plain).train([part(0, 6)])
    assert torch.equal(runner(scaled, scale=4.0).train([part(0, 6)]), loss)
    assert torch.allclose(scaled.weight.grad, 4 * plain.weight.grad)


def test_only_own_samples_are_evaluated_and_losses_are_summed() -> None:
    model = nn.Linear(3, 2)
    outputs, total = runner(model).evaluate([part(0, 3), part(3, 5), part(5, 6, own=0)])
    assert outputs is not None
    assert torch.equal(outputs["output"], model(X[:5]))
    assert not outputs["output"].requires_grad
    expected = nn.functional.cross_entropy(model(X[:5]), Y[:5], reduction="sum")
    assert total == pytest.approx(float(expected), abs=1e-5)


def test_bf16_is_computed_in_bf16() -> None:
    seen: list[torch.dtype] = []

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = super().forward(x)
            seen.append(made.dtype)
            return made

    runner(Model(3, 2), precision="bf16").train([part(0, 6)])
    runner(Model(3, 2)).train([part(0, 6)])
    assert seen == [torch.bfloat16, torch.float32]


def test_models_with_several_inputs_and_outputs() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"hidden": x, "logits": self.linear(x) * scale}

    model = Model()
    batch = MicroBatch({"x": X, "scale": torch.ones(6, 1)}, Y, 6, 1.0)
    loss = runner(model).train([batch])
    assert float(loss) == pytest.approx(float(nn.functional.cross_entropy(model.linear(X), Y)))
