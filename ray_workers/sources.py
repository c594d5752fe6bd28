"""Models that come in otherwise than by a factory of yours: factories that read them from a path.

`model: {factory: "prefect_hone.ray_workers.sources:transformers_model", args: {path: folder}}`

A path is kept in the store when a run starts, so steps depend on what lies there. Nothing in these
files is executed: no pickle that could hold code, no code of the model's folder.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..recipe.errors import InputError

_LARGEST_RATIO = 200  # of a file's size in an archive to its packed size: more is a bomb


def transformers_model(path: str) -> nn.Module:
    """A model of a transformers folder (`config.json` and safetensors), without its cache.

    Args:
        path: The folder, as `save_pretrained` writes it.

    Raises:
        InputError: transformers is not installed, the folder is not complete, or it wants to run
            code of its own or has its weights in a pickle.
    """
    transformers = _library("transformers", "transformers")
    folder = Path(path)
    where = f"model.args.path: {path}"
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"this is no transformers model: {_first(error)}", where=where) from error
    name = (config.architectures or [None])[0]
    kind = getattr(transformers, name or "", None)
    if kind is None:
        raise InputError(
            f"transformers has no architecture '{name}'",
            where=where,
            do="give a folder that save_pretrained wrote for a model of transformers itself",
        )
    config.use_cache = False
    try:
        model: nn.Module = kind.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the weights can't be loaded: {_first(error)}",
            where=where,
            do="weights are read from safetensors only",
        ) from error
    return model


def program(path: str) -> nn.Module:
    """A `torch.export` program (`.pt2`) as a module; it can be compressed, not trained.

    Raises:
        InputError: The file is no such archive, is hostile, or holds pickled objects.
    """
    where = f"model.args.path: {path}"
    check_archive(Path(path), where)
    try:
        exported = torch.export.load(path)
    except Exception as error:
        raise InputError(
            f"torch.export can't load the program: {_first(error)}",
            where=where,
            do=f"was it saved by torch.export.save of torch {torch.__version__.split('+')[0]}?",
        ) from error
    return _Program(exported.module())


class _Program(nn.Module):
    """An exported graph, whose `eval` and `train` change nothing."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def train(self, mode: bool = True) -> _Program:
        self.training = mode  # the graph was exported in one mode and stays in it
        return self

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.graph(*arguments, **named)


def keras_model(path: str) -> nn.Module:
    """A Keras 3 model file (`.keras`), through Keras's torch backend.

    Raises:
        InputError: Keras is not installed or has another backend, or the file is no such archive,
            is hostile, or holds code (lambda layers).
    """
    where = f"model.args.path: {path}"
    check_archive(Path(path), where)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    keras = _library("keras", "keras")
    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras has the backend {keras.backend.backend()} in this process",
            where=where,
            do="set KERAS_BACKEND=torch",
        )
    try:
        model: nn.Module = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"Keras can't load the model: {_first(error)}", where=where) from error
    return model


def check_archive(path: Path, where: str) -> None:
    """Refuse an archive that is not what it says, before anything in it is used.

    Raises:
        InputError: It is no zip file, has paths that lead out of it, unpacks to far more than it
            is, or holds a pickle of more than plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                parts = Path(entry.filename).parts
                if entry.filename.startswith("/") or ".." in parts:
                    raise InputError(f"'{entry.filename}' leads out of the archive", where=where)
                if entry.file_size > _LARGEST_RATIO * max(1024, entry.compress_size):
                    raise InputError(
                        f"'{entry.filename}' unpacks to {entry.file_size:,} bytes from "
                        f"{entry.compress_size:,}: this looks like a zip bomb",
                        where=where,
                    )
                if entry.filename.endswith(("config.json",)) and entry.file_size < 2**26:
                    _refuse_pickled(archive.read(entry), entry.filename, where)
                if entry.filename.endswith((".pt", ".pkl", ".pickle")):
                    _refuse_code(archive.read(entry), entry.filename, where)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"this is no model archive: {_first(error)}", where=where) from error


def _refuse_pickled(content: bytes, name: str, where: str) -> None:
    try:
        said = json.loads(content)
    except ValueError:
        return
    entries = said.get("config", {}) if isinstance(said, dict) else {}
    if isinstance(entries, dict) and any(
        isinstance(entry, dict) and entry.get("use_pickle") for entry in entries.values()
    ):
        raise InputError(f"'{name}' asks for pickled tensors", where=where)


def _refuse_code(content: bytes, name: str, where: str) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise InputError(
            f"'{name}' holds more than plain tensors: {_first(error)}", where=where
        ) from error


def _library(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise InputError(
            f"this needs the package {name}, which is not installed",
            where="model.factory",
            do=f"pip install 'prefect-hone[{extra}]'",
        ) from None


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
