"""The architectures of the zoo: small, with seeded random weights, and a few random inputs each.

Those of transformers are made from its configuration classes, so nothing is downloaded. Dropout is
off: two workers draw other random numbers than one.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import torch
from image_libraries import TIMM, TORCHVISION, image_model, images, import_torchvision
from more_by_hand import MORE
from prefect_hone import Data
from prefect_hone.ray_workers.data.calling import arrays, call_model, rebuilt
from torch import nn
from transformers_other import OTHER
from transformers_text import TEXT
from written_by_hand import BY_HAND
from zoo_inputs import SAMPLES

with contextlib.suppress(ModuleNotFoundError):
    import_torchvision()  # transformers imports it, too

WRITTEN = {**BY_HAND, **MORE}
TRANSFORMERS = {**TEXT, **OTHER}
#: Names of all architectures by the library that they are from.
FAMILIES: dict[str, tuple[str, ...]] = {
    "written by hand": tuple(WRITTEN),
    "transformers": tuple(TRANSFORMERS),
    "timm": tuple(TIMM),
    "torchvision": tuple(TORCHVISION),
}
NAMES = tuple(name for names in FAMILIES.values() for name in names)


def import_libraries() -> None:
    """The modules of all architectures, which takes longer than to make one of them."""
    import transformers

    for kind, configuration, _, _ in TRANSFORMERS.values():
        getattr(transformers, kind), getattr(transformers, configuration)
    with contextlib.suppress(ModuleNotFoundError):
        import timm  # noqa: F401


def model(name: str, double: bool = False) -> nn.Module:
    """An architecture, in evaluation mode; in float64 if asked for."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        made = _made(name)
    for layer in made.modules():
        for attribute, value in vars(layer).items():
            if isinstance(value, float) and ("drop" in attribute or isinstance(layer, nn.Dropout)):
                setattr(layer, attribute, 0.0)
    _settle(made, name)
    return made.double().eval() if double else made.eval()


def _settle(made: nn.Module, name: str) -> None:
    """Give what starts at zero, and batch norms, values as after some training."""
    generator = torch.Generator().manual_seed(2)
    for parameter in made.parameters():
        if not parameter.any():  # a bias of zero would hide that one is lost, or added twice
            std = 0.02 if parameter.ndim > 1 else 0.1
            nn.init.normal_(parameter, std=std, generator=generator)
    norms = [m for m in made.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        call_model(made.train(), inputs(name))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.zero_()  # type: ignore[union-attr]


def _made(name: str) -> nn.Module:
    if name in WRITTEN:
        return WRITTEN[name][0]()
    if name not in TRANSFORMERS:
        return image_model(name)
    import transformers

    kind, configuration, fields, _ = TRANSFORMERS[name]
    backbone = fields.get("backbone_config")
    if isinstance(backbone, str):
        fields = {**fields, "backbone_config": _backbone(backbone)}
    config = getattr(transformers, configuration)(**fields)
    for key in ("dropout", "layerdrop"):
        for field in [
            f for f in vars(config) if key in f and isinstance(getattr(config, f), float)
        ]:
            setattr(config, field, 0.0)
    made: nn.Module = getattr(transformers, kind)(config)
    return made


def _backbone(kind: str) -> Any:
    import transformers

    if kind == "rt-detr-resnet":
        return transformers.RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"], layer_type="basic",
        )  # fmt: skip
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"]
    )


def inputs(name: str) -> Any:
    """A batch of random inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name in WRITTEN:
            return WRITTEN[name][1]()
        return TRANSFORMERS[name][3]() if name in TRANSFORMERS else images()


class _Samples(torch.utils.data.Dataset[Any]):
    def __init__(self, batch: Any, start: int, stop: int) -> None:
        self._batch, self._rows = batch, range(start, stop)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        batch = self._batch
        if isinstance(batch, dict):
            return {name: value[row] for name, value in batch.items()}, 0
        if isinstance(batch, tuple):
            return tuple(value[row] for value in batch), 0
        return batch[row], 0


def data(name: str, double: bool = False) -> Data:
    """The same inputs as a data set, each with the target 0."""
    batch = rebuilt({
        key: torch.from_numpy(value.astype(np.float64) if double and value.dtype == np.float32 else value)
        for key, value in arrays(inputs(name)).items()
    })  # fmt: skip
    part = SAMPLES // 5
    return Data(
        train=_Samples(batch, part, 3 * part), test=_Samples(batch, 0, part),
        validation=_Samples(batch, 3 * part, 4 * part),
        calibration=_Samples(batch, 4 * part, SAMPLES), name=name,
    )  # fmt: skip


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of any output, whatever its shape."""
    kind = torch.float64 if outputs.dtype == torch.float64 else torch.float32
    return outputs.to(kind).pow(2).mean()


class Size:
    """A metric of any output: how large it is."""

    @staticmethod
    def per_sample(outputs: np.ndarray[Any, Any], targets: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.abs(outputs.reshape(len(outputs), -1)).mean(1)[:, None]
        return found

    @staticmethod
    def aggregate(statistics: np.ndarray[Any, Any]) -> float:
        return float(statistics.mean())
