"""A torch module as an artifact: its weights, and what was changed in what the factory makes.

Compression changes shapes and replaces layers, so the factory alone can't rebuild a compressed
model. `surgery.json` says in plain data what to do after calling it: no pickle holds a model.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from ...recipe.errors import InputError, StoreError
from ...recipe.factories import Allowed

WEIGHTS = "model.safetensors"
SURGERY = "surgery.json"
Operation = dict[str, Any]

#: Attributes that say a layer's shape, and are set when it is given another one.
_SIZES = (
    "in_channels", "out_channels", "groups", "in_features", "out_features", "num_features",
    "normalized_shape", "num_channels", "num_groups", "num_embeddings", "embedding_dim",
    "num_heads", "n_heads", "n_head", "heads", "num_attention_heads", "num_key_value_heads",
    "n_kv_heads", "all_head_size", "embed_dim", "num_key_value_groups",
)  # fmt: skip


def load_module(factory: dict[str, Any], allowed: Allowed, folder: Path) -> nn.Module:
    """Build a model and give it the weights of a folder; in evaluation mode.

    Args:
        factory: The recipe's factory and its arguments.
        allowed: Factories that may be called.
        folder: Of a module artifact, or of bare weights.

    Raises:
        InputError: The factory failed, or the weights are not this model's.
    """
    model = build(factory, allowed, operations_of(folder))
    try:
        load_model(model, str(folder / WEIGHTS))
    except RuntimeError as error:
        raise InputError(
            f"the weights don't fit the model: {str(error).splitlines()[-1].strip()}",
            where="model.factory",
            do="does the factory build the same model each time?",
        ) from error
    return model.eval()


def save_module(model: nn.Module, operations: Sequence[Operation], folder: Path) -> None:
    """Write a module's weights and how it was made from the factory's."""
    save_model(model, str(folder / WEIGHTS))
    if operations:
        (folder / SURGERY).write_text(json.dumps(list(operations), sort_keys=True))


def operations_of(folder: Path) -> list[Operation]:
    """What was done to the factory's model.

    Raises:
        StoreError: The file is not a list of operations.
    """
    path = folder / SURGERY
    if not path.exists():
        return []
    try:
        said = json.loads(path.read_text())
    except ValueError:
        said = None
    if not isinstance(said, list) or not all(
        isinstance(op, dict) and op.get("op") in _OPERATIONS for op in said
    ):
        raise StoreError("the module's surgery can't be read", where=str(path))
    return said


def build(
    factory: dict[str, Any], allowed: Allowed, operations: Sequence[Operation] = ()
) -> nn.Module:
    """The factory's model after the operations, without its weights.

    Raises:
        InputError: The factory makes no module, or an operation does not fit it.
    """
    model = _made(factory, allowed, "model.factory")
    for operation in operations:
        match operation["op"]:
            case "student":
                model = _made(operation, allowed, "student.factory")
            case "reshape":
                _reshape(model, operation["layers"])
            case "low-rank":
                for name, rank in operation["ranks"].items():
                    factorize(model, name, int(rank), weights=False)
    return model


def initial(factory: dict[str, Any], allowed: Allowed) -> nn.Module:
    """The factory's model, with the weights that the recipe names for it, if it does.

    Raises:
        InputError: The file can't be read as safetensors, or is of another model.
    """
    model = build(factory, allowed)
    url = factory.get("weights")
    if url is None:
        return model
    try:
        with tempfile.TemporaryDirectory(prefix="hone-weights-") as folder:
            local = Path(folder) / WEIGHTS
            fs, path = fsspec.core.url_to_fs(url)
            fs.get_file(path, str(local))
            load_model(model, str(local))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the weights can't be loaded: {(str(error).strip().splitlines() or [''])[-1].strip()}",
            where=f"model.weights: {url}",
            do="are they a safetensors file of this very model?",
        ) from error
    return model


def _made(factory: dict[str, Any], allowed: Allowed, what: str) -> nn.Module:
    model = allowed.call(factory["factory"], factory["args"], what)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the factory returned a {type(model).__name__}, expected a torch.nn.Module", where=what
        )
    return model


def dynamic_batch(model: nn.Module, inputs: Any, axis: Any) -> dict[str, Any]:
    """The `dynamic_shapes` of `torch.export` for a model whose inputs have the batch first.

    Args:
        model: Its forward may take its inputs by name, or as `*arguments` and `**named`.
        inputs: A tensor (N, ...), or a dictionary of them that is given by name.
        axis: The `torch.export.Dim` of the batch.
    """
    signature = inspect.signature(model.forward)
    bound = signature.bind(**inputs) if isinstance(inputs, dict) else signature.bind(inputs)

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(inner) for name, inner in value.items()}
        return tuple(map(of, value)) if isinstance(value, tuple) else {0: axis}

    return {name: of(value) for name, value in bound.arguments.items()}


def shapes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Sizes and tensors' shapes of each layer, to tell later what changed."""
    return {
        name: {
            "attributes": {
                key: list(value) if isinstance(value, tuple) else value
                for key in _SIZES
                if isinstance(value := getattr(module, key, None), int | tuple)
            },
            "shapes": {
                key: list(value.shape)
                for key, value in [
                    *module.named_parameters(recurse=False),
                    *module.named_buffers(recurse=False),
                ]
            },
        }
        for name, module in model.named_modules()
    }


def reshaped(before: dict[str, dict[str, Any]], model: nn.Module) -> Operation:
    """The operation that makes the shapes of `before` those that the model has now."""
    after = shapes(model)
    return {"op": "reshape", "layers": {n: s for n, s in after.items() if before.get(n) != s}}


def _reshape(model: nn.Module, layers: dict[str, dict[str, Any]]) -> None:
    known = dict(model.named_modules())
    for name, said in layers.items():
        if name not in known:
            raise InputError(
                f"the compressed model has a layer '{name}', and the factory's has none",
                where="model.factory",
                do="does the factory build the same model each time?",
            )
        module = known[name]
        for key, value in said["attributes"].items():
            if key in _SIZES:
                setattr(module, key, tuple(value) if isinstance(value, list) else value)
        for key, shape in said["shapes"].items():
            old = getattr(module, key)
            if list(old.shape) == shape:
                continue
            new = torch.empty(shape, dtype=old.dtype)
            if isinstance(old, nn.Parameter):
                setattr(module, key, nn.Parameter(new, requires_grad=old.requires_grad))
            else:
                setattr(module, key, new)


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
    layer = model.get_submodule(name)
    first: nn.Module
    second: nn.Module
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    elif isinstance(layer, nn.Conv2d):
        options: Any = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "padding_mode": layer.padding_mode,
        }
        first = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, bias=False, **options)
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)
    else:
        raise InputError(
            f"'{name}' is a {type(layer).__name__}: only linear layers and 2-D convolutions can "
            "be factorized",
            where="low-rank",
        )
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
    setattr(model.get_submodule(parent), last, nn.Sequential(first, second))


_OPERATIONS = ("student", "reshape", "low-rank")
