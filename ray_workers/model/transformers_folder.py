"""A transformers folder as it is given to transformers: a new one of checked files.

`config.json` chooses code: of the model's own folder, of a hub's kernels, of a quantizer's package.
So transformers gets a folder with the checked configuration and the safetensors files only. A text
in the configuration is a plain word; others, which name folders, repositories and URLs, are left
out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from .program_schema import read_json
from .symbolic import NotAllowed

CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_LARGEST = {CONFIG: 32 * 2**20, _INDEX: 256 * 2**20}
_DEEPEST = 20
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+<>| -]{0,200}", re.ASCII)
#: Texts that people read; no code is chosen by them.
_LABELS = frozenset({"id2label", "label2id"})
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors", re.ASCII)
#: Implementations that are part of transformers and torch; others come from packages or a hub.
_IMPLEMENTATIONS = frozenset({None, "eager", "sdpa", "batched_mm", "grouped_mm"})
#: Fields that transformers needs code or a download for; with what a person can do.
_REFUSED = {
    "quantization_config": "give the weights that were not quantized: Hone quantizes them",
    "compression_config": "give the weights that were not compressed",
    "use_pretrained_backbone": "set it to false: the weights of the backbone are in the folder",
    "use_kernels": "remove it",
    "kernel_config": "remove it",
}


def write_checked(folder: Path, target: Path, where: str) -> None:
    """Make a folder of the checked configuration, and links to the weights.

    Args:
        folder: The stranger's.
        target: The new one, empty.
        where: What an error calls the first one.

    Raises:
        InputError: The configuration would run code that is not part of transformers, or a file of
            weights lies elsewhere.
    """
    try:
        config = _checked(_read(folder / CONFIG), where, 0)
        if not isinstance(config, dict):
            raise NotAllowed("a configuration that is no dictionary")
        (target / CONFIG).write_text(json.dumps(config))
        names = [_WEIGHTS]
        if not (folder / _WEIGHTS).exists() and (folder / _INDEX).exists():
            index = _checked_index(_read(folder / _INDEX))
            (target / _INDEX).write_text(json.dumps(index))
            names = sorted(set(index["weight_map"].values()))
    except NotAllowed as error:
        raise InputError(
            f"this is not a transformers model: it has {error}",
            where=where,
            do="give a folder that save_pretrained wrote",
        ) from error
    for name in names:
        if (folder / name).is_file():
            (target / name).symlink_to((folder / name).resolve())


def needs_own_code(folder: Path) -> bool:
    """Whether the configuration names classes of the folder's own."""
    try:
        said = _read(folder / CONFIG)
    except NotAllowed:
        return False
    return isinstance(said, dict) and bool(said.get("auto_map"))


def _read(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > _LARGEST[path.name] or not path.is_file():
            raise NotAllowed(f"a {path.name} of {size:,} bytes")
        return read_json(path.read_bytes())
    except OSError as error:
        raise NotAllowed(f"no {path.name} that can be read") from error
    except NotAllowed as error:
        if "valid JSON" in str(error):
            raise NotAllowed(f"a {path.name} that is not valid JSON") from error
        raise


def _checked(data: Any, where: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise NotAllowed("a configuration that is nested too deeply")
    if isinstance(data, dict):
        return {
            name: value if name in _LABELS else _checked(value, where, depth + 1)
            for name, value in data.items()
            if (_are_labels(value) if name in _LABELS else _is_kept(name, value, where))
        }
    if isinstance(data, list):
        return [_checked(v, where, depth + 1) for v in data if _is_plain(v)]
    return data


def _is_kept(name: str, value: Any, where: str) -> bool:
    if "implementation" in name:
        _check_implementation(name, value, where)
    if value and name in _REFUSED:
        raise InputError(
            f"its config.json has '{name}', for which code or files from elsewhere are needed",
            where=where,
            do=_REFUSED[name],
        )
    return name != "auto_map" and _is_plain(name) and _is_plain(value)


def _are_labels(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str | int) for v in value.values())


def _is_plain(value: Any) -> bool:
    return not isinstance(value, str) or value == "" or _WORD.fullmatch(value) is not None


def _check_implementation(name: str, value: Any, where: str) -> None:
    """One name, or names by part of the model; a name with a slash is a repository of kernels."""
    for part in value.values() if isinstance(value, dict) else [value]:
        if not isinstance(part, str | None) or part not in _IMPLEMENTATIONS:
            raise InputError(
                f"its config.json asks for the {name} '{str(part)[:80]}', which is not part of "
                "transformers and torch",
                where=where,
                do="remove it, or set it to 'eager' or 'sdpa'",
            )


def _checked_index(data: Any) -> dict[str, Any]:
    mapped = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(mapped, dict) or not mapped:
        raise NotAllowed(f"a {_INDEX} without a weight_map")
    for name, file in mapped.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise NotAllowed(
                f"weights '{name[:80]}' in '{str(file)[:80]}', which is no safetensors file of the "
                "same folder"
            )
    return {"metadata": {}, "weight_map": mapped}
