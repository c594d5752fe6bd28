"""A torch module as an artifact: its weights, and the changes to the factory's model.

Compression changes shapes and replaces layers, so the factory alone can't rebuild a compressed
model. `surgery.json` says in plain data what to do after calling it, so no model is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fsspec
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel

from ...recipe.errors import InputError
from ...recipe.factories import Allowed, origin
from ...recipe.library_messages import described, telling
from ...recipe.model import Factory, ModelFactory
from ..data.calling import choose_output
from ..scratch import scratch_folder
from ..store.artifacts import verify_kept
from ..store.file_names import WEIGHTS
from .computed_weights import make_plain
from .file_kinds import safetensors_problem
from .kept_models import own_copy
from .surgery import (
    Factorize,
    Linearize,
    PlainWeights,
    Reshape,
    Student,
    Surgery,
    factorize,
    operations_of,
    reshape,
    write_operations,
)
from .ties import load_tensors, save_tensors
from .transposed_linear import make_linear


def load_module(factory: Factory, allowed: Allowed, folder: Path) -> nn.Module:
    """Build a model and load the weights in a folder; in evaluation mode.

    Args:
        factory: The recipe's factory and its arguments.
        allowed: Factories that may be called.
        folder: Of a module artifact, or of bare weights.

    Raises:
        InputError: The factory failed, or the weights are not this model's.
    """
    model = build(factory, allowed, operations_of(folder))
    try:
        load_tensors(model, folder / WEIGHTS)
    except (RuntimeError, SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"the trained weights don't fit the model: {telling(error)}",
            where=origin(factory.factory, factory.args),
            do="let the factory build the same model each time",
        ) from error
    return model.eval()


def save_module(model: nn.Module, operations: Sequence[Surgery], folder: Path) -> None:
    """Write a module's weights, and the operations that derive it from the factory's model."""
    save_tensors(model, folder / WEIGHTS)
    write_operations(operations, folder)


def build(factory: Factory, allowed: Allowed, operations: Sequence[Surgery] = ()) -> nn.Module:
    """The factory's model after the operations, without its weights.

    Raises:
        InputError: The factory returns no module, or an operation does not fit it.
    """
    model = make_module(factory, allowed, "model.factory")
    chosen = getattr(factory, "output", None)
    for operation in operations:
        match operation:
            case Student():
                model = make_module(operation, allowed, "student.factory")
            case Reshape(layers=layers, ties=ties):
                reshape(model, layers, ties)
            case Factorize(ranks=ranks):
                for name, rank in ranks.items():
                    factorize(model, name, rank, weights=False)
            case Linearize(layers=names):
                make_linear(model, names)
            case PlainWeights(tensors=names):
                make_plain(model, names)
    return choose_output(model, chosen)


def initial(factory: ModelFactory, allowed: Allowed) -> nn.Module:
    """The factory's model, with the weights that the recipe names for it, if any.

    Raises:
        InputError: The file can't be read as safetensors, or is of another model.
    """
    model = build(factory, allowed)
    url = factory.weights
    if url is None:
        return model
    load_weights(model, url, f"model.weights: {url}")
    return model


def load_weights(model: nn.Module, url: str, where: str) -> None:
    """Load the weights of a safetensors file into a module.

    Args:
        model: The module.
        url: The file: a path, or any fsspec URL.
        where: What an error calls it.

    Raises:
        InputError: The file can't be read as safetensors, or is of another model.
    """
    with scratch_folder("weights") as folder:
        local = Path(folder) / WEIGHTS
        try:
            fs, path = fsspec.core.url_to_fs(url)
            fs.get_file(path, str(local))
            verify_kept(url, Path(folder))
            load_tensors(model, local)
        except (OSError, RuntimeError, ValueError, ImportError, SafetensorError) as error:
            problem = safetensors_problem(local) if local.is_file() else None
            raise InputError(
                f"the weights can't be loaded: {problem or telling(error)}",
                where=where,
                do="give the safetensors file of this very model "
                "(safetensors.torch.save_model writes it)",
            ) from error


def refuse_lazy(model: nn.Module, what: str) -> None:
    """Refuse layers whose sizes follow from the first batch, where layers get other sizes.

    Raises:
        InputError: With their names.
    """
    lazy = [n for n, module in model.named_modules() if isinstance(module, LazyModuleMixin)]
    if lazy:
        raise InputError(
            f"layers get other sizes, and those of {', '.join(lazy[:4])} follow from the first "
            "batch (lazy modules)",
            where=what,
            do="give the layers their sizes in the model: nn.Linear(20, 32), not nn.LazyLinear(32)",
        )


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without `torch.compile` or a data-parallel wrapper: Hone does both."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def make_module(factory: Factory, allowed: Allowed, where: str) -> nn.Module:
    """The module that a factory returns; a copy of one that the factory keeps.

    Raises:
        InputError: It can't be called, failed, returned no module, or the very one that a step
            before got and may have changed.
    """
    if isinstance(allowed.resolve(factory.factory, where), nn.Module):
        raise InputError(
            "this is a model, expected a function that builds one",
            where=f"{where}: {factory.factory}",
            do="build it in a function: each step needs a model of its own",
        )
    model = allowed.call(factory.factory, factory.args, where)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the factory returned {described(model)}, expected a torch.nn.Module",
            where=origin(factory.factory, factory.args, where),
        )
    model = _unwrapped(model)
    scripted = [n for n, m in model.named_modules() if isinstance(m, torch.jit.ScriptModule)]
    if scripted:
        which = f"the layer '{scripted[0]}'" if scripted[0] else "the model"
        raise InputError(
            f"{which} is scripted with torch.jit, which torch.export does not trace",
            where=origin(factory.factory, factory.args, where),
            do="give the model without torch.jit.script",
        )
    return own_copy(model, origin(factory.factory, factory.args, where))
