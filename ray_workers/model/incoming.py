"""Models that don't come from a factory of the user: they are read from a path.

`model: {source: PATH}` in a recipe calls `read`. The files are copied to the store when a run
starts, so steps depend on their bytes. They are a stranger's: what a library gets is not the file
but a copy made of the parts that are known of its format (`program_file.py`, `keras_file.py`,
`transformers_folder.py`, `onnx_model.py`), and a process without privileges opens it before this
one (`quarantine.py`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import torch
import yaml
from torch import nn

from ...recipe.errors import InputError
from ...recipe.library_messages import more, telling
from ..scratch import lasting_folder, scratch_folder
from ..store.artifacts import verify_kept
from . import keras_file, program_file, transformers_folder
from .file_kinds import safetensors_problem
from .onnx_model import OnnxGraph, model_files
from .quarantine import Opened, OpeningFailed, quarantine

_LARGEST_MLMODEL = 2**20


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
    place, where = _local(path), f"model.source: {path}"
    with quarantine() as apart:
        for file in model_files(place, where):
            copy = apart.folder / file.relative_to(place.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        try:
            apart.open(apart.folder / place.name, "onnx", where)
        except OpeningFailed as error:
            raise InputError(
                telling(error),
                where=where,
                do="export it again, for an opset and with operators that this ONNX Runtime has",
            ) from error
    return OnnxGraph(place, where=where)


def mlflow_model(path: str) -> nn.Module:
    """A model logged in MLflow, from its downloaded folder, by its flavor.

    Raises:
        InputError: It was logged as a pickle, or in no flavor with a model that can be compressed.
    """
    folder = _local(path)
    where = f"model.source: {path}"
    try:
        if (folder / "MLmodel").stat().st_size > _LARGEST_MLMODEL:
            raise ValueError("it is too large")
        said = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        flavors: dict[str, Any] = {str(name): value for name, value in said["flavors"].items()}
    except (
        OSError, TypeError, KeyError, AttributeError, ValueError, RecursionError, yaml.YAMLError
    ) as error:  # fmt: skip
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
        found = [p for p in sorted(folder.glob(pattern)) if _is_within(p, folder)]
        found = found if flavor in flavors else []
        if found:
            chosen = found[0].parent if flavor == "transformers" else found[0]
            return read(str(chosen))
    if "pytorch" in flavors:
        raise InputError(
            "it was logged as a pickle, which could hold any code",
            where=where,
            do="log it with mlflow.pytorch.log_model(..., serialization_format='pt2')",
        )
    served = flavors.get("python_function")
    if (
        isinstance(served, dict)
        and served.get("loader_module") == "prefect_hone.runtimes.served_model"
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


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _local(path: str) -> Path:
    """A path on this machine; files in a remote store are fetched once per process."""
    if "://" not in path:
        verify_kept(path)
        return Path(path)
    if path not in _FETCHED:
        fs, remote = fsspec.core.url_to_fs(path)
        folder = lasting_folder("source")
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
    with scratch_folder("source") as checked:
        transformers_folder.write_checked(folder, Path(checked), where)
        _try_apart(folder, Path(checked), where)
        config = _configuration(transformers, folder, Path(checked), where)
        model, said = _with_weights(transformers, config, folder, Path(checked), where)
    _check_loaded(said, where)
    loaded: nn.Module = model
    return loaded


def _try_apart(folder: Path, checked: Path, where: str) -> None:
    """Have a child build what a checked configuration describes, by which code is chosen.

    Raises:
        InputError: It can't be built, or the weights are not enough for it.
    """
    name = transformers_folder.CONFIG
    with quarantine() as apart:
        shutil.copyfile(checked / name, apart.folder / name)
        try:
            described = apart.open(apart.folder / name, "transformers", where).parameters
        except OpeningFailed as error:
            raise _no_transformers_model(error, folder, where) from error
    held = sum(file.stat().st_size for file in checked.glob("*.safetensors"))
    if held and described > held:  # a parameter takes a byte or more
        raise InputError(
            f"its config.json describes {described:,} parameters, and its weights have only "
            f"{held:,} bytes",
            where=where,
            do="give the config.json and the weights of one and the same model",
        )


def _configuration(transformers: Any, folder: Path, checked: Path, where: str) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(
            checked, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise _no_transformers_model(error, folder, where) from error
    config.use_cache = False
    return config


def _no_transformers_model(error: Exception, folder: Path, where: str) -> InputError:
    own = transformers_folder.needs_own_code(folder)
    said = "it needs code of its own, which is not run" if own else telling(error)
    return InputError(
        f"this is not a transformers model: {said}",
        where=where,
        do="give a folder that save_pretrained wrote",
    )


def _with_weights(
    transformers: Any, config: Any, folder: Path, checked: Path, where: str
) -> tuple[Any, dict[str, Any]]:
    name = (getattr(config, "architectures", None) or [None])[0]
    kind: Any = getattr(transformers, str(name), None)
    known = inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise InputError(
            f"transformers has no architecture '{name}'",
            where=where,
            do="give a folder that save_pretrained wrote for a model of transformers itself",
        )
    try:
        found: tuple[Any, dict[str, Any]] = kind.from_pretrained(
            checked,
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
    return found


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
    place, where = _local(path), f"model.source: {path}"
    with quarantine() as apart:
        checked = apart.folder / "model.pt2"
        modules = program_file.write_checked(place, checked, where)
        try:
            for module in modules:
                importlib.import_module(module)
            apart.open(checked, "program", where, modules)
            # What `.module()` gives can't be exported within another module; this can.
            model: nn.Module = torch.export.unflatten(torch.export.load(checked))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"torch.export can't load the program: {telling(error)}",
                where=where,
                do="save it with torch.export.save of torch "
                f"{torch.__version__.split('+')[0]}, the version that is installed here",
            ) from error
    return model


def keras_model(path: str) -> nn.Module:
    """A Keras 3 model file (`.keras`), through Keras's torch backend.

    Raises:
        InputError: Keras is not installed or has another backend, or the file is no such archive,
            is hostile, or holds code (lambda layers).
    """
    place, where = _local(path), f"model.source: {path}"
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
    with quarantine() as apart:
        checked = apart.folder / "model.keras"
        config = keras_file.write_checked(place, checked, where)
        try:
            return _rebuilt(keras, config, apart.opened(checked, "keras", where))
        except InputError:
            raise
        except Exception as error:
            raise keras_file.unloadable(telling(error), where) from error


def _rebuilt(keras: Any, config: dict[str, Any], opened: Opened) -> nn.Module:
    """The model of a checked configuration, with the weights that a child read."""
    from safetensors.torch import load_file

    model: Any = keras.saving.deserialize_keras_object(config, safe_mode=True)
    weights = load_file(opened.weights)
    variables = list(model.variables)
    if len(weights) != len(variables):
        raise ValueError(f"it has {len(weights)} weights, expected {len(variables)}")
    for index, variable in enumerate(variables):
        variable.assign(weights[str(index)])
    for layer in model.modules():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    module: nn.Module = model
    return module


def _not_installed(name: str) -> InputError:
    return InputError(
        f"this needs the package {name}, which is not installed",
        where="model.source",
        do=f"pip install 'prefect-hone[{name}]'",
    )
