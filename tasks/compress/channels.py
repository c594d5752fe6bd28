"""Channels, removed with a real change of shape, by torch-pruning.

torch-pruning follows what reads a layer's outputs. Where it can't (a recurrent layer, a view of a
fixed width), the layers are found one by one and keep their channels; the others are pruned.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...ray_workers.data.calling import call_model, called, named_outputs, outputs_for_loss
from ...ray_workers.data.splits import batches
from ...ray_workers.model.copies import copied
from ...ray_workers.model.flops import forward_flops
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.surgery import tie
from ...ray_workers.model.ties import aliases
from ...ray_workers.training.losses import make_loss
from ...recipe.errors import InputError, StepFailed
from ...recipe.factories import users_line
from ...recipe.library_messages import telling
from ...recipe.passes import PruneChannels
from ..specs.compress import Coverage, LayerCoverage
from .coverage import SKIPPED
from .output_layers import Outputs
from .pruning_groups import LostChannels, searching
from .training_pass import PassContext

_TAYLOR_BATCHES, _TAYLOR_SIZE = 4, 64
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d,
                 nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # fmt: skip
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_UNFIT = "the layers that it works with would no longer fit it"


class _OutputChanged(Exception):
    """An output that must keep its shape has another."""


@dataclass
class ChannelPruning:
    """Prunes copies of a model.

    Attributes:
        spec: The pass.
        context: Its model and data.
        unable: Layers that can't be pruned, with the reason.
        is_searched: Whether all of these were looked for; once, when pruning fails.
        outputs: Of the model, and what computes them.
    """

    spec: PruneChannels
    context: PassContext
    unable: dict[str, str] = field(default_factory=dict)
    is_searched: bool = False
    outputs: Outputs = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = Outputs(self.context.model, self.context.samples.inputs)

    def pruned(self, model: nn.Module) -> nn.Module:
        """A copy with the share of channels removed, or as many as reach the aim.

        Raises:
            InputError: torch-pruning is not installed.
            StepFailed: The aim can't be reached, or the model can't be pruned at all.
        """
        if self.spec.ratio is not None:
            return self._with_ratio(model, self.spec.ratio)
        measure = _measures(self.context)[str(self.spec.reach)]
        whole, low, high = measure(model), 0.0, 0.95
        best: nn.Module | None = None
        for _ in range(7):  # the ratio to within a hundredth
            ratio = (low + high) / 2
            smaller = self._with_ratio(model, ratio)
            if measure(smaller) <= float(self.spec.at_most or 0) * whole:
                best, high = smaller, ratio
            else:
                low = ratio
        if best is None:
            raise StepFailed(
                f"even with {high:.0%} of the channels removed, {self.spec.reach} stay above "
                f"{self.spec.at_most:.0%}",
                where="prune.at_most",
                do="raise at_most, or lower round_to",
            )
        return best

    def _with_ratio(self, model: nn.Module, ratio: float) -> nn.Module:
        known = dict(model.named_modules())
        require_layers(self.spec.skip_layers, known, "prune.skip_layers")
        has_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in known.values())
        if self.spec.importance == "bn-scale" and not has_norm:
            raise StepFailed(
                "importance bn-scale needs batch norms, and the model has none", where="prune"
            )
        try:
            return self._without_channels(model, ratio)
        except InputError:
            raise
        except Exception as error:
            if not self.is_searched:
                self.is_searched = True
                self._find_unable(model, ratio)
                self._find_unfit(model, ratio)
            try:
                return self._without_channels(model, ratio)
            except Exception:
                raise StepFailed(
                    f"the model's channels can't be pruned: {telling(error)}",
                    where=users_line(error) or "prune",
                    do="list the layers to leave unchanged in skip_layers, or use method magnitude",
                ) from error

    def _find_unable(self, model: nn.Module, ratio: float) -> None:
        """Prune each layer alone: those that fail keep their channels."""
        for name in self._layers(model):
            try:
                self._without_channels(model, ratio, only=name)
            except Exception as error:
                place = users_line(error)
                self.unable[name] = (
                    str(error)
                    if isinstance(error, _OutputChanged)
                    else (
                        f"the model's code fixes its width ({place})"
                        if place
                        else "torch-pruning can't follow its outputs through the model"
                    )
                )

    def _find_unfit(self, model: nn.Module, ratio: float) -> None:
        """Those that can be pruned alone, and not with the others, keep their channels: of grouped
        queries, for one. Halves of the layers are added to those that fit, smaller ones if they
        fail.
        """
        able = [name for name in self._layers(model) if name not in self.unable]
        fitting: list[str] = []

        def fits(some: list[str]) -> bool:
            try:
                self._without_channels(model, ratio, whole={*able} - {*fitting, *some})
            except Exception:
                return False
            return True

        def add(some: list[str]) -> None:
            if fits(some):
                fitting.extend(some)
            elif len(some) == 1:
                self.unable.setdefault(some[0], _UNFIT)
            else:
                half = len(some) // 2
                add(some[:half])
                add(some[half:])

        if able:
            add(able)

    def _layers(self, model: nn.Module) -> list[str]:
        """Names of the layers that may be pruned."""
        kinds = (*_CONVOLUTIONS, nn.Linear, nn.LSTM, nn.MultiheadAttention)
        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, kinds) and name not in self.spec.skip_layers
        ]

    def _without_channels(
        self,
        model: nn.Module,
        ratio: float,
        only: str | None = None,
        whole: Collection[str] = (),
    ) -> nn.Module:
        """A copy with channels removed, of all layers but some, or of one, and tried on samples."""
        while True:
            try:
                return self._pruned_by_groups(model, ratio, only, whole)
            except LostChannels as lost:
                if lost.layer in self.unable:
                    raise
                self.unable[lost.layer] = (
                    "torch-pruning can't follow its channels through the model"
                )

    def _pruned_by_groups(
        self, model: nn.Module, ratio: float, only: str | None, whole: Collection[str]
    ) -> nn.Module:
        tp = _torch_pruning()
        pruned, samples = copied(model), self.context.samples.inputs
        frozen = [n for n, p in _every_parameter(pruned) if not p.requires_grad]
        for parameter in pruned.parameters():  # it follows gradients to see what is connected
            parameter.requires_grad_(parameter.is_floating_point())
        known = dict(pruned.named_modules())
        kept = [known[name] for name in (*self.spec.skip_layers, *self.unable, *whole)]
        kept += [known[name] for name in self.outputs.layers]
        importance = {
            "magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
            "taylor": lambda: tp.importance.GroupTaylorImportance(),
            "bn-scale": lambda: tp.importance.BNScaleImportance(),
        }[self.spec.importance]()
        with searching(pruned) as weighing:
            pruner = tp.pruner.BasePruner(
                pruned,
                samples,
                importance=weighing(importance),
                pruning_ratio=ratio if only is None else 0.0,
                pruning_ratio_dict={} if only is None else {known[only]: ratio},
                global_pruning=self.spec.scope == "global" and only is None,
                max_pruning_ratio=0.95,
                ignored_layers=kept,
                round_to=self.spec.round_to,
                output_transform=_floats,
            )
            if self.spec.importance == "taylor":
                _accumulate_gradients(pruned, self.context)
            pruner.step()
        pruned.zero_grad(set_to_none=True)
        _tie_again(model, pruned)
        with torch.no_grad():
            output = self.outputs.changed(called(pruned.eval(), samples))
        if output is not None:
            raise _OutputChanged(f"the output '{output}' would get another shape")
        for name, parameter in _every_parameter(pruned):
            parameter.requires_grad_(name not in frozen and parameter.is_floating_point())
        return pruned

    def coverage(self, before: nn.Module, after: nn.Module) -> Coverage:
        """What became of each layer with channels."""
        smaller = dict(_every_parameter(after))
        layers, expected, actual = [], 0.0, 0
        share = (1 - (self.spec.ratio or 0)) ** 2
        for name, module in before.named_modules():
            if not isinstance(module, (*_CONVOLUTIONS, nn.Linear, *_RECURRENT)):
                continue
            own = dict(module.named_parameters(recurse=False))
            count = sum(p.numel() for p in own.values())
            left = sum(smaller[f"{name}.{key}" if name else key].numel() for key in own)
            why = None if left < count else self._why(name, module)
            layers.append(
                LayerCoverage(
                    layer=name, operator=type(module).__name__, weights=count, left_because=why
                )
            )
            expected += count * share
            actual += left
        return Coverage(
            layers=tuple(layers),
            expected_bytes=int(4 * expected) if self.spec.ratio else 0,
            bytes=4 * actual,
        )

    def _why(self, name: str, module: nn.Module) -> str:
        """Why a layer kept all of its channels."""
        if name in self.spec.skip_layers:
            return SKIPPED
        if isinstance(module, _RECURRENT):
            return "recurrent layers keep their width"
        if name in self.unable:
            return self.unable[name]
        if name in self.outputs.layers:
            return "it computes the outputs"
        width = int(getattr(module, "out_channels", getattr(module, "out_features", 0)))
        step = self.spec.round_to
        if width <= step:
            return f"round_to {step} leaves all of its {width} channels"
        if int(getattr(module, "groups", 1)) > 1:
            return f"it has {module.groups} groups"
        return "what it is connected to keeps its width"


def _every_parameter(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters by all of their names: a tied one has several."""
    yield from model.named_parameters(remove_duplicate=False)


def _floats(outputs: Any) -> list[torch.Tensor]:
    """The outputs that channels can be followed from."""
    return [value for value in named_outputs(outputs).values() if value.is_floating_point()]


def _tie_again(model: nn.Module, pruned: nn.Module) -> None:
    """torch-pruning makes two tensors of a tied one; those that kept the same numbers are one."""
    values = pruned.state_dict()
    for name, other in aliases(model).items():
        if torch.equal(values[name], values[other]):
            tie(pruned, name, other)


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ModuleNotFoundError:
        raise InputError(
            "pruning of channels needs the package torch-pruning, which is not installed",
            where="prune",
            do="pip install 'prefect-hone[prune]'",
        ) from None
    return torch_pruning


def _accumulate_gradients(model: nn.Module, context: PassContext) -> None:
    """Gradients of the loss on training batches (Molchanov et al., arXiv:1906.10771)."""
    train = context.work.spec.train
    data = context.work.spec.data
    loss = make_loss(train.loss, context.work.allowed, target=data.target)
    count = min(len(context.splits.train), _TAYLOR_BATCHES * _TAYLOR_SIZE)
    groups = [range(i, min(i + _TAYLOR_SIZE, count)) for i in range(0, count, _TAYLOR_SIZE)]
    for inputs, target in batches(context.splits, context.splits.train, groups):
        loss(outputs_for_loss(model, inputs, train.loss_gets_all), target).backward()


def _measures(context: PassContext) -> dict[str, Callable[[nn.Module], float]]:
    return {
        "flops": lambda model: forward_flops(model, context.samples.inputs),
        "parameters": lambda model: float(sum(p.numel() for p in model.parameters())),
        "latency": lambda model: _seconds(model, context.samples.inputs),
    }


def _seconds(model: nn.Module, sample: Any) -> float:
    """Median duration of a forward pass of a few samples in eager mode, on one thread (s)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        with torch.inference_mode():
            for _ in range(25):
                started = time.perf_counter()
                call_model(model, sample)
                times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times[5:])
