"""A Keras 3 file (`.keras`) as it is given to Keras: a new archive of checked parts.

Its configuration names classes, which Keras imports, and some of them run code or read files that
the configuration names (Lambda, TFSMLayer, TorchModuleWrapper, StringLookup). So a class must be
known.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from .archive import opened
from .program_schema import read_json
from .symbolic import NotAllowed

CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
_KNOWN = re.compile(r"config\.json|metadata\.json|model\.weights\.h5")
_LARGEST_CONFIG = 64 * 2**20
_DEEPEST = 100
_NAME = re.compile(r"[A-Za-z_]\w{0,100}", re.ASCII)
#: Layers whose configuration is numbers, words and other layers.
_LAYERS = frozenset({
    "Activation", "ActivityRegularization", "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "Average",
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "BatchNormalization",
    "Bidirectional", "CategoryEncoding", "CenterCrop", "Concatenate", "Conv1D", "Conv1DTranspose",
    "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "ConvLSTM1D", "ConvLSTM2D",
    "ConvLSTM3D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "DepthwiseConv1D",
    "DepthwiseConv2D", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding", "Flatten", "GRU",
    "GRUCell", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GroupNormalization", "GroupQueryAttention",
    "Identity", "InputLayer", "LSTM", "LSTMCell", "LayerNormalization", "LeakyReLU", "Masking",
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum", "MultiHeadAttention",
    "Multiply", "Normalization", "PReLU", "Permute", "RMSNormalization", "RNN", "RandomBrightness",
    "RandomContrast", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation",
    "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing", "ReversibleEmbedding",
    "SeparableConv1D", "SeparableConv2D", "SimpleRNN", "SimpleRNNCell", "Softmax",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "SpectralNormalization",
    "StackedRNNCells", "Subtract", "TimeDistributed", "UnitNormalization", "UpSampling1D",
    "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
})  # fmt: skip
_MODELS = frozenset({"Functional", "Model", "Sequential"})
#: Modules of which every class and function may be named: they compute.
_MODULES = frozenset({
    "builtins", "keras.activations", "keras.constraints", "keras.dtype_policies",
    "keras.initializers", "keras.regularizers", "keras.src.ops.image", "keras.src.ops.linalg",
    "keras.src.ops.math", "keras.src.ops.nn", "keras.src.ops.numpy",
})  # fmt: skip
_VALUES = frozenset({"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__",
                     "__tensor__"})  # fmt: skip


def write_checked(path: Path, target: Path, where: str) -> dict[str, Any]:
    """Write a Keras file again, of checked parts.

    Args:
        path: The stranger's file.
        target: The new one.
        where: What an error calls it.

    Returns:
        The checked configuration.

    Raises:
        InputError: It is no such file, or has classes that are not known.
    """
    with opened(path, where, _refusal) as (archive, members):
        try:
            config = _config(archive, members)
            if _WEIGHTS not in members:
                raise NotAllowed(f"it holds no {_WEIGHTS}")
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
                made.writestr(CONFIG, json.dumps(config))
                made.writestr("metadata.json", json.dumps({"keras_version": "3"}))
                with archive.open(members[_WEIGHTS]) as source, made.open(
                    _WEIGHTS, "w", force_zip64=True
                ) as sink:  # fmt: skip
                    shutil.copyfileobj(source, sink, 2**20)
        except NotAllowed as error:
            raise unloadable(str(error), where) from error
    return config


def unloadable(said: str, where: str) -> InputError:
    """Keras can't load a file, for this reason."""
    return InputError(
        f"Keras can't load the model: {said}",
        where=where,
        do="give a model of Keras's own layers, saved by Keras 3 as .keras",
    )


def _config(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if CONFIG not in members:
        raise NotAllowed(f"it holds no {CONFIG}")
    if members[CONFIG].file_size > _LARGEST_CONFIG:
        raise NotAllowed(f"its {CONFIG} has {members[CONFIG].file_size:,} bytes")
    try:
        found = read_json(archive.read(members[CONFIG]))
    except NotAllowed as error:
        raise NotAllowed(f"it holds {error}") from None
    if not isinstance(found, dict) or found.get("class_name") not in list(_MODELS):
        raise NotAllowed("it is no Functional or Sequential model")
    _check(found, 0)
    return {**found, "compile_config": None}


def _check(data: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise NotAllowed("its configuration is nested too deeply")
    if isinstance(data, dict):
        if "class_name" in data or "spec_name" in data:
            _check_class(data)
        for value in data.values():
            _check(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            _check(value, depth + 1)


def _check_class(data: dict[str, Any]) -> None:
    name, module, registered = map(data.get, ("class_name", "module", "registered_name"))
    if name in ("Lambda", "__lambda__"):
        raise NotAllowed("it has a Lambda layer, which holds code")
    if "spec_name" not in data and isinstance(name, str):
        own = registered in (None, name) or (
            name == "function" and registered == data.get("config")
        )
        if name in _VALUES or (own and _is_known(name, module, data.get("config"))):
            return
    raise NotAllowed(
        f"it has a layer {_shown(name)}, which is not one of Keras's own that only compute"
        if module != "builtins"
        else f"it has a function {_shown(data.get('config'))}, which is not one of Keras's own"
    )


def _is_known(name: str, module: Any, config: Any) -> bool:
    match module:
        case None:  # shorter forms, which Keras looks up among its own
            return name in _LAYERS or name in _MODELS
        case (
            "keras" | "keras.models" | "keras.src.models.functional" | "keras.src.models.sequential"
        ):
            return name in _MODELS or name == "DTypePolicy"
        case "keras.layers" | "keras.src.layers":
            return name in _LAYERS
    if not isinstance(module, str) or module not in _MODULES:
        return False
    if name == "function":
        return isinstance(config, str) and _NAME.fullmatch(config) is not None
    return module != "builtins" and _NAME.fullmatch(name) is not None


def _refusal(name: str, start: bytes) -> str | None:
    if _KNOWN.fullmatch(name):
        return None
    if name.startswith("assets/"):
        return "is a file of a layer (a vocabulary), which can't be read"
    if start.startswith((b"\x80", b"PK")):
        return "holds more than plain tensors: it is a pickle, and no part of a Keras file"
    return "is no part of a .keras file"


def _shown(value: Any) -> str:
    text = str(value)[:80]
    return "".join(c if c.isprintable() else "?" for c in text)
