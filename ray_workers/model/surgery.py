"""Changes to a factory's model, in plain data, and how to apply them again.

A pass stores its operations beside the weights. They are applied in order to the factory's model,
so that the weights fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, StringConstraints, TypeAdapter
from torch import nn

from ...recipe.errors import InputError, StoreError
from ...recipe.library_messages import telling
from ...recipe.model import Factory
from ...recipe.strict import Strict
from ..store.file_names import SURGERY
from .ties import aliases

#: Name of a layer, of a parameter or of an attribute.
_Name = Annotated[str, StringConstraints(max_length=2000)]
_Size = Annotated[int, Field(ge=0, lt=2**40)]
_Sizes = Annotated[tuple[_Size, ...], Field(max_length=16)]


class Shape(Strict):
    """A layer's size attributes, and the shapes of its parameters and buffers."""

    attributes: dict[_Name, _Size | _Sizes | bool]
    shapes: dict[_Name, _Sizes]


class Student(Factory):
    """Another factory's model takes the place of the recipe's."""

    op: Literal["student"] = "student"


class Reshape(Strict):
    """Layers change their sizes.

    Attributes:
        layers: What each of them has then.
        ties: Tensors that are another tensor, with the name of that one.
    """

    op: Literal["reshape"] = "reshape"
    layers: dict[_Name, Shape]
    ties: dict[_Name, _Name] = Field(default_factory=dict)


class Factorize(Strict):
    """Layers become two of a lower rank."""

    op: Literal["low-rank"] = "low-rank"
    ranks: dict[_Name, Annotated[int, Field(ge=1, lt=2**31)]]


class Linearize(Strict):
    """Linear layers whose weight is transposed become `nn.Linear`."""

    op: Literal["linear"] = "linear"
    layers: tuple[_Name, ...]


class PlainWeights(Strict):
    """Tensors that are computed from others (weight norm) become parameters."""

    op: Literal["plain-weights"] = "plain-weights"
    tensors: tuple[_Name, ...]


#: One operation on the model that a factory makes.
Surgery = Annotated[
    Student | Reshape | Factorize | Linearize | PlainWeights, Field(discriminator="op")
]
_SURGERIES: TypeAdapter[list[Surgery]] = TypeAdapter(
    Annotated[list[Surgery], Field(max_length=1000)]
)
_LARGEST_FILE = 64 * 2**20

#: Attributes that say a layer's shape, and are set when it is given another one.
_SIZES = (
    "in_channels", "out_channels", "groups", "in_features", "out_features", "num_features",
    "normalized_shape", "num_channels", "num_groups", "num_embeddings", "embedding_dim",
    "num_heads", "n_heads", "n_head", "heads", "num_attention_heads", "num_key_value_heads",
    "n_kv_heads", "all_head_size", "embed_dim", "num_key_value_groups", "input_size", "hidden_size",
    "split_size", "attn_dim", "inner_dim",
)  # fmt: skip


def operations_of(folder: Path) -> list[Surgery]:
    """The operations that were applied to the factory's model.

    Raises:
        StoreError: The file is not a list of operations.
    """
    path = folder / SURGERY
    if not path.exists():
        return []
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is too large")
        return _SURGERIES.validate_json(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise StoreError(
            "the compressed module's surgery can't be read",
            where=path.name,
            do="the file was changed in the artifact store: delete the artifact and run again",
        ) from error


def write_operations(operations: Sequence[Surgery], folder: Path) -> None:
    """Write them beside the weights; nothing where there are none."""
    if operations:
        plain = [operation.model_dump(mode="json") for operation in operations]
        (folder / SURGERY).write_text(json.dumps(plain, sort_keys=True))


def shapes(model: nn.Module) -> dict[str, Shape]:
    """Sizes and tensors' shapes of each layer, to find out later what changed."""
    return {
        name: Shape(
            attributes={
                key: value
                for key in _SIZES
                if isinstance(value := getattr(module, key, None), int | tuple)
            },
            shapes={
                key: tuple(value.shape)
                for key, value in [
                    *module.named_parameters(recurse=False),
                    *module.named_buffers(recurse=False),
                ]
            },
        )
        for name, module in model.named_modules()
    }


def reshaped(before: dict[str, Shape], model: nn.Module) -> Reshape:
    """The operation that turns the shapes in `before` into those that the model has now."""
    after = shapes(model)
    layers = {n: s for n, s in after.items() if before.get(n) != s}
    ties = aliases(model) if layers else {}
    return Reshape(
        layers=layers, ties={n: o for n, o in ties.items() if n.rpartition(".")[0] in layers}
    )


def reshape(model: nn.Module, layers: dict[str, Shape], ties: Mapping[str, str] = {}) -> None:
    """Change the sizes of layers; their weights are loaded afterwards.

    Args:
        model: It is changed.
        layers: The new sizes by layer.
        ties: Tensors that are another tensor then.

    Raises:
        InputError: The model has no such layer.
    """
    known = dict(model.named_modules())
    for name, wanted in layers.items():
        if name not in known:
            raise InputError(
                f"the compressed model has a layer '{name}', and the factory's has none",
                where="model.factory",
                do="does the factory build the same model each time?",
            )
        module = known[name]
        tensors = dict(
            [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        )
        for key, value in wanted.attributes.items():
            if key in _SIZES and _is_alike(getattr(module, key, None), value):
                setattr(module, key, value)
        for key, shape in wanted.shapes.items():
            if key not in tensors or tensors[key].ndim != len(shape):
                raise InputError(
                    f"the compressed model's layer '{name}' has a tensor '{key}' of shape {shape}, "
                    "and the factory's has none of that kind",
                    where="model.factory",
                    do="does the factory build the same model each time?",
                )
            old = tensors[key]
            if tuple(old.shape) == shape:
                continue
            new = _empty(shape, old.dtype, f"{name}.{key}")
            if isinstance(old, nn.Parameter):
                setattr(module, key, nn.Parameter(new, requires_grad=old.requires_grad))
            else:
                setattr(module, key, new)
    for name, other in ties.items():
        tie(model, name, other)


def tie(model: nn.Module, name: str, other: str) -> None:
    """Make a parameter or buffer the same as another one, if both are there and alike."""
    owner, _, key = name.rpartition(".")
    known = dict([*model.named_parameters(remove_duplicate=False),
                  *model.named_buffers(remove_duplicate=False)])  # fmt: skip
    if name in known and other in known and known[name].shape == known[other].shape:
        setattr(model.get_submodule(owner), key, known[other])


def _is_alike(old: Any, new: int | tuple[int, ...]) -> bool:
    """Whether two sizes are both one number, or both equally many."""
    if isinstance(new, tuple):
        return isinstance(old, tuple) and len(old) == len(new)
    return isinstance(old, int)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, name: str) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=dtype)
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"the compressed model's '{name}' has the shape {shape}, for which the memory does not "
            "suffice",
            where="model.factory",
        ) from error


class LowRank(nn.Sequential):  # type: ignore[misc]
    """Two layers in place of one. Models ask a layer for more than its outputs (T5 and ViT for the
    type of its weight, MobileNet for its stride): they get what the layer would have.
    """

    def __getattr__(self, name: str) -> Any:
        parts = tuple(self.__dict__.get("_modules", {}).values())
        if name == "weight" and len(parts) == 2:
            return self._product()
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or len(parts) != 2:
                raise
            return getattr(parts[name == "bias" or name.startswith("out_")], name)

    def _product(self) -> torch.Tensor:
        """The weight of one layer that computes the same."""
        first, second = self[0].weight, self[1].weight
        product = second.flatten(1) @ first.flatten(1)
        return product.reshape(len(second), *first.shape[1:])


def factorize(model: nn.Module, name: str, rank: int, weights: bool = True) -> None:
    """Replace a linear layer or a convolution by two of a lower rank, in place.

    By truncated singular value decomposition of the weight as a matrix (Denton et al.,
    https://arxiv.org/abs/1404.0736): a linear layer becomes two, a convolution one of the same
    kernel with `rank` channels and one of kernel 1.

    Args:
        model: The model.
        name: Of the layer.
        rank: Of the product.
        weights: Whether to compute the weights; else they are loaded afterwards.
    """
    layer = dict(model.named_modules()).get(name)
    if layer is None or name == "":
        raise InputError(f"the model has no layer '{name}' to factorize", where="low-rank")
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise InputError(
            f"'{name}' is a {type(layer).__name__}: only linear layers and 2-D convolutions can "
            "be factorized",
            where="low-rank",
        )
    if rank > min(layer.weight.flatten(1).shape):
        raise InputError(f"the rank {rank} is above that of the layer '{name}'", where="low-rank")
    try:
        first, second = _two_layers(layer, rank)
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise InputError(
            f"'{name}' can't be factorized with rank {rank}: {telling(error)}", where="low-rank"
        ) from error
    if weights:
        with torch.no_grad():
            matrix = layer.weight.flatten(1).float()
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            root = s[:rank].sqrt()
            first.weight.copy_((root[:, None] * v[:rank]).reshape(first.weight.shape))
            second.weight.copy_((u[:, :rank] * root).reshape(second.weight.shape))
            if layer.bias is not None:
                second.bias.copy_(layer.bias)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, LowRank(first, second))


def _two_layers(layer: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    if isinstance(layer, nn.Linear):
        return (
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
        )
    assert isinstance(layer, nn.Conv2d)  # noqa: S101 (narrows a type)
    options: Any = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "padding_mode": layer.padding_mode,
    }
    return (
        nn.Conv2d(layer.in_channels, rank, layer.kernel_size, bias=False, **options),
        nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None),
    )
