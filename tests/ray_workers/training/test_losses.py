"""Losses: the mean over what counts, whichever parts a batch is in; axes of classes; refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from prefect_hone.ray_workers.training.broadcasts import refuse_broadcast
from prefect_hone.ray_workers.training.losses import Counted, make_counted_loss, make_loss
from prefect_hone.ray_workers.training.objectives import distillation, supervised
from prefect_hone.ray_workers.training.parallel.axes import Axes
from prefect_hone.ray_workers.training.parallel.parallelize import Placed
from prefect_hone.ray_workers.training.step import MicroBatch, make_step_runner
from prefect_hone.ray_workers.training.watch import agree, divide
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.training import Train
from torch import nn

OWN = """
import torch
import torch.nn.functional as F

def masked(outputs, targets):
    counts = targets >= 0
    each = F.cross_entropy(outputs, targets.clamp(min=0), reduction="none")
    return (each * counts).sum(), counts.sum()

def vector(outputs, targets):
    return outputs.sum(0)

def squared(outputs, targets):
    return ((outputs - targets) ** 2).mean()

class Focal:
    def __init__(self, gamma=2.0):
        self.gamma = gamma

    def __call__(self, outputs, targets):
        return ((outputs - targets).abs() ** self.gamma).mean()

focal = Focal()

def by_name(outputs, targets):
    return F.mse_loss(outputs, targets)

def squeezed(outputs, targets):
    return ((outputs.squeeze(-1) - targets) ** 2).mean()

def contrasted(outputs, targets):
    same = targets[:, None] == targets
    return (outputs @ outputs.T * same).mean()
"""


@pytest.fixture
def allowed(tmp_path: Path) -> Allowed:
    (tmp_path / "own_losses.py").write_text(OWN)
    use_code(tmp_path)
    return Allowed.from_environment(tmp_path)


generator = torch.Generator().manual_seed(5)
X = torch.randn(12, 3, generator=generator)
Y = torch.randint(0, 4, (12,), generator=generator)
Y[[0, 1, 2, 7]] = -100


def gradient(objective: Any, parts: list[slice]) -> tuple[float, torch.Tensor]:
    """The mean loss and the gradient of a step whose batch is in parts."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    placed, axes = Placed([model], model), Axes.alone()
    spec = Train(epochs=1, batch_size=12)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    runner = make_step_runner(placed, objective, spec, axes, scaler, unit=1.0)
    loss = runner.train([MicroBatch(X[p], Y[p], len(X[p]), len(X[p]) / 12) for p in parts])
    agreed = agree(loss, runner.counted, False, axes)
    divide(placed, agreed)
    assert model.weight.grad is not None
    return float(agreed.loss), model.weight.grad.clone()


PARTS = [[slice(0, 12)], [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]]
WEIGHTS = (1.0, 5.0, 0.5, 2.0)


@pytest.mark.parametrize("parts", PARTS, ids=["whole", "4 parts"])
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cross_entropy", {}, {}),
        ("cross_entropy", {"class_weights": WEIGHTS}, {"weight": torch.tensor(WEIGHTS)}),
        ("cross_entropy", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
        ("own_losses:masked", {}, {}),
    ],
)
def test_the_mean_is_over_what_counts(
    allowed: Allowed, parts: list[slice], name: str, options: dict, expected: dict
) -> None:
    """The first part has nothing that counts."""
    loss, found = gradient(supervised(make_counted_loss(name, allowed, **options)), parts)
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    true = F.cross_entropy(model(X), Y, **expected)
    true.backward()
    assert loss == pytest.approx(float(true), abs=1e-6)
    assert model.weight.grad is not None
    assert torch.allclose(found, model.weight.grad, atol=1e-6)


def test_a_teachers_pull_is_over_what_counts_too() -> None:
    teacher = nn.Linear(3, 4)
    cross_entropy = make_counted_loss("cross_entropy", Allowed())
    from prefect_hone.ray_workers.training.losses import CrossEntropy

    made = distillation(
        cross_entropy, lambda x: teacher(x).detach(), 2.0, 0.7, True, None, CrossEntropy().weights
    )
    (whole, one), (apart, other) = (gradient(made, parts) for parts in PARTS)
    assert whole == pytest.approx(apart, abs=1e-6)
    assert torch.allclose(one, other, atol=1e-6)


def test_a_batch_of_which_nothing_counts_has_no_gradient() -> None:
    counted = make_counted_loss("cross_entropy", Allowed())
    loss, found = gradient(
        supervised(lambda o, t: counted(o, torch.full_like(t, -100))), [slice(0, 6), slice(6, 12)]
    )
    assert loss == 0
    assert not found.any()


@pytest.mark.parametrize(
    ("outputs", "targets"), [((2, 5, 5), (2, 5)), ((2, 5, 3), (2, 5)), ((2, 6, 3, 4), (2, 3, 4))]
)
def test_classes_are_where_metrics_read_them(outputs: tuple, targets: tuple) -> None:
    """With as many tokens as classes, (N, T, C) is read as a sequence."""
    from prefect_hone.ray_workers.metrics import metric

    logits = torch.randn(outputs, generator=generator)
    axis = 2 if len(outputs) == 3 else 1
    best = logits.argmax(axis)
    measure = metric("accuracy")
    assert measure.aggregate(measure.per_sample(logits.numpy(), best.numpy())) == 1
    loss = make_loss("cross_entropy", Allowed())(logits * 100, best)
    expected = F.cross_entropy(logits.movedim(axis, 1) * 100, best)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    nats = metric("cross_entropy")
    found = nats.aggregate(nats.per_sample((logits * 100).numpy(), best.numpy()))
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_a_loss_of_ones_own_returns_a_scalar_or_a_pair(allowed: Allowed) -> None:
    pair = make_counted_loss("own_losses:masked", allowed)(torch.randn(12, 4), Y)
    assert isinstance(pair, Counted)
    assert float(pair.count) == 8
    with pytest.raises(InputError, match=r"a tensor of shape \(4,\), expected a scalar"):
        make_counted_loss("own_losses:vector", allowed)(torch.randn(12, 4), Y)


def test_a_class_is_told_as_one_and_its_object_is_a_loss(allowed: Allowed) -> None:
    with pytest.raises(InputError, match="it names the class Focal, expected a function") as failed:
        make_counted_loss("own_losses:Focal", allowed)
    assert failed.value.do is not None
    assert "`loss = Focal()` in own_losses" in failed.value.do
    value = make_loss("own_losses:focal", allowed)(torch.full((2, 1), 3.0), torch.ones(2, 1))
    assert float(value) == 4.0


@pytest.mark.parametrize("name", ["squared", "by_name"])
def test_outputs_broadcast_against_targets_are_refused(allowed: Allowed, name: str) -> None:
    path = f"own_losses:{name}"
    loss = make_loss(path, allowed)
    with pytest.raises(InputError, match=r"outputs \(5, 1\) and targets \(5,\).*\(5, 5\)"):
        refuse_broadcast(loss, path, torch.randn(5, 1), torch.randn(5))
    refuse_broadcast(loss, path, torch.randn(5, 1), torch.randn(5, 1))
    for right in ("own_losses:squeezed", "own_losses:contrasted"):
        refuse_broadcast(make_loss(right, allowed), right, torch.randn(5, 1), torch.randn(5))
