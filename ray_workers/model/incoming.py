"""Models that don't come from a factory of the user: they are read from a path.

`model: {source: PATH}` in a recipe calls `read`. The files are copied to the store when a run
starts, so steps depend on their bytes. Nothing in them is executed: no pickle that could contain
code, no code from the model's folder.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import torch
import yaml
from torch import nn

from ...recipe.errors import InputError
from ...recipe.library_messages import more, telling
from ..store.artifacts import verify_kept
from .file_kinds import odd_kind, safetensors_problem
from .onnx_model import OnnxGraph

_LARGEST_RATIO = 200  # of a file's size in an archive to its packed size: more is a bomb


def read(path: str) -> nn.Module:
    """The model in a file or folder of any supported kind.

    Args:
        path: An `.onnx`, `.pt2` or `.keras` file, a transformers folder, or an MLflow model's.

    Raises:
        InputError: It is none of them, or can't be read.
    """
    place = _local(path)
    kinds = {".onnx": onnx_graph, ".pt2": program, ".keras": keras_model}
    if place.is_file() and place.suffix in kinds:
        return kinds[place.suffix](str(place))
    if (place / "MLmodel").is_file():
        return mlflow_model(str(place))
    if (place / "config.json").is_file():
        return transformers_model(str(place))
    graphs = sorted(place.glob("*.onnx")) if place.is_dir() else []
    if len(graphs) == 1:
        return onnx_graph(str(graphs[0]))
    raise InputError(
        _unreadable(place),
        where=f"model.source: {path}",
        do="give an .onnx, .pt2 or .keras file, a transformers folder or an MLflow model, or the "
        "factory of a torch module",
    )


def _unreadable(place: Path) -> str:
    if not place.exists():
        return "there is no such file or folder"
    if place.is_dir():
        return "the folder holds no model that can be read"
    return (
        f"a {place.suffix} file is not a model that can be read"
        if place.suffix
        else ("this is not a model that can be read")
    )


def onnx_graph(path: str) -> nn.Module:
    """An ONNX file; it can be compressed as a graph, not trained.

    Raises:
        InputError: As `OnnxGraph`.
    """
    return OnnxGraph(_local(path), where=f"model.source: {path}")


def mlflow_model(path: str) -> nn.Module:
    """A model logged in MLflow, from its downloaded folder, by its flavor.

    Raises:
        InputError: It was logged as a pickle, or in no flavor with a model that can be compressed.
    """
    folder = _local(path)
    where = f"model.source: {path}"
    try:
        said = yaml.safe_load((folder / "MLmodel").read_text())
        flavors: dict[str, Any] = dict(said["flavors"])
    except (OSError, TypeError, KeyError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"its MLmodel file can't be read: {telling(error)}", where=where
        ) from error
    for flavor, pattern in (
        ("onnx", "**/*.onnx"),
        ("transformers", "**/config.json"),
        ("pytorch", "**/*.pt2"),
        ("keras", "**/*.keras"),
        ("tensorflow", "**/*.keras"),
    ):
        found = sorted(folder.glob(pattern)) if flavor in flavors else []
        if found:
            chosen = found[0].parent if flavor == "transformers" else found[0]
            return read(str(chosen))
    if "pytorch" in flavors:
        raise InputError(
            "it was logged as a pickle, which could hold any code",
            where=where,
            do="log it with mlflow.pytorch.log_model(..., serialization_format='pt2')",
        )
    if (
        flavors.get("python_function", {}).get("loader_module")
        == "prefect_hone.runtimes.served_model"
    ):
        raise InputError(
            "it is a champion of Hone, compiled already",
            where=where,
            do="give the model that it was made from, as its recipe.yaml names it",
        )
    raise InputError(
        f"it was logged as {', '.join(flavors)}, and none of these holds a model to compress",
        where=where,
        do="log it in the flavor onnx, pytorch (pt2), transformers or keras",
    )


def _local(path: str) -> Path:
    """A path on this machine; files in a remote store are fetched once per process."""
    if "://" not in path:
        verify_kept(path)
        return Path(path)
    if path not in _FETCHED:
        fs, remote = fsspec.core.url_to_fs(path)
        folder = Path(tempfile.mkdtemp(prefix="hone-source-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        parent = fs.isfile(remote)  # what lies beside a file belongs to it
        fs.get(str(Path(remote).parent) if parent else remote, str(folder / "all"), recursive=True)
        verify_kept(path, folder / "all")
        _FETCHED[path] = folder / "all" / Path(remote).name if parent else folder / "all"
    return _FETCHED[path]


_FETCHED: dict[str, Path] = {}


def transformers_model(path: str) -> nn.Module:
    """A model of a transformers folder (`config.json` and safetensors), without its cache.

    Args:
        path: The folder, as `save_pretrained` writes it.

    Raises:
        InputError: transformers is not installed, the folder is incomplete, or it requires its own
            code to run or has its weights in a pickle.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise _not_installed("transformers") from None
    folder = _local(path)
    where = f"model.source: {path}"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"this is not a transformers model: {telling(error)}",
            where=where,
            do="give a folder that save_pretrained wrote",
        ) from error
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
        model, said = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # told below, by name
            output_loading_info=True,
        )
    except Exception as error:
        problems = [p for f in sorted(folder.glob("*.safetensors")) if (p := _problem(f))]
        pickled = next(iter(sorted(folder.glob("*.bin"))), None)
        raise InputError(
            f"the weights can't be loaded: {(problems or [telling(error)])[0]}"
            + (f"; {pickled.name} is a pickle, which could hold any code" if pickled else ""),
            where=where,
            do="give weights as safetensors, whole: save_pretrained writes them",
        ) from error
    _check_loaded(said, where)
    loaded: nn.Module = model
    return loaded


def _problem(path: Path) -> str | None:
    said = safetensors_problem(path)
    return f"{path.name}: {said}" if said else None


def _check_loaded(said: dict[str, Any], where: str) -> None:
    """Refuse weights of another model, which transformers would complete with random numbers."""
    wrong = sorted(said["mismatched_keys"])
    missing = sorted(said["missing_keys"])
    if wrong:
        name, has, wants = wrong[0]
        what = (
            f"'{name}' has shape {tuple(has)} in the file and {tuple(wants)} by config.json"
            f"{more(wrong)}"
        )
    elif missing:
        what = f"the weights lack '{missing[0]}'{more(missing)}"
    else:
        return
    raise InputError(
        what, where=where, do="give the config.json and the weights of one and the same model"
    )


def program(path: str) -> nn.Module:
    """A `torch.export` program (`.pt2`) as a module; it can be compressed, not trained.

    Raises:
        InputError: The file is no such archive, is hostile, or holds pickled objects.
    """
    place = _local(path)
    where = f"model.source: {path}"
    check_archive(place, where)
    with _said_by("torch.export") as said:
        try:
            exported = torch.export.load(place)
        except Exception as error:
            raise InputError(
                f"torch.export can't load the program: {telling((said or [error])[-1])}",
                where=where,
                do="save it with torch.export.save of torch "
                f"{torch.__version__.split('+')[0]}, the version that is installed here",
            ) from error
    # What `.module()` gives can't be exported within another module; this can.
    model: nn.Module = torch.export.unflatten(exported)
    return model


@contextlib.contextmanager
def _said_by(name: str) -> Iterator[list[BaseException]]:
    """Exceptions that a logger would otherwise print, collected while this context is active."""
    logger, found = logging.getLogger(name), list[BaseException]()

    class Listener(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.exc_info and record.exc_info[1] is not None:
                found.append(record.exc_info[1])
            return False

    listener = Listener()
    logger.addFilter(listener)
    try:
        yield found
    finally:
        logger.removeFilter(listener)


def keras_model(path: str) -> nn.Module:
    """A Keras 3 model file (`.keras`), through Keras's torch backend.

    Raises:
        InputError: Keras is not installed or has another backend, or the file is no such archive,
            is hostile, or holds code (lambda layers).
    """
    place = _local(path)
    where = f"model.source: {path}"
    check_archive(place, where)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    # Keras has one device for the whole process: a GPU only where this worker was given one.
    gpu = torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ.setdefault("KERAS_TORCH_DEVICE", "cuda" if gpu else "cpu")
    try:
        import keras
    except ModuleNotFoundError:
        raise _not_installed("keras") from None
    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras has the backend {keras.backend.backend()} in this process",
            where=where,
            do="set KERAS_BACKEND=torch",
        )
    try:
        model: nn.Module = keras.saving.load_model(place, compile=False, safe_mode=True)
    except Exception as error:
        said = telling(error)
        raise InputError(
            f"Keras can't load the model: {said}",
            where=where,
            do="give a model of Keras's own layers, saved by Keras 3 as .keras",
        ) from error
    return model


def check_archive(path: Path, where: str) -> None:
    """Refuse a suspicious archive before anything in it is used.

    Raises:
        InputError: It is no zip file, has paths outside of it, unpacks to far more than its size,
            or contains a pickle of more than plain tensors.
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
                if parts[-1:] == ("data.pkl",):
                    raise InputError(
                        "torch.save or TorchScript wrote it, with a pickle that could hold any "
                        "code",
                        where=where,
                        do="save the model with torch.export.save",
                    )
                if entry.filename.endswith((".pt", ".pkl", ".pickle")):
                    _refuse_code(archive.read(entry), entry.filename, where)
    except (OSError, zipfile.BadZipFile) as error:
        said = odd_kind(path, archive=True) or "it is no zip file, or it is cut off"
        raise InputError(f"this is not a {path.suffix} file: {said}", where=where) from error


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
            f"'{name}' holds more than plain tensors: {telling(error)}", where=where
        ) from error


def _not_installed(name: str) -> InputError:
    return InputError(
        f"this needs the package {name}, which is not installed",
        where="model.source",
        do=f"pip install 'prefect-hone[{name}]'",
    )
