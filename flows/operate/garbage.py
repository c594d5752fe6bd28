"""What no run, version or cache needs any more, in the store and in HONE_HOME.

Needed is: a result that was computed or used within so many days, every artifact that it refers to,
every deployed recipe with its files, every artifact of a version in the model registry, and
whatever is younger than a day, since a run may be about to refer to it. MLflow's own files are
never touched.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from ...ray_workers.store.artifacts import Store
from ...tasks.tracking.champions import registered_artifacts

_DAY = 86_400.0  # s
_RECORDS = ("steps", "sources")
_DEPLOYED = "recipes"  # only the Prefect server knows which of them a deployment still names
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Leftover:
    """Something that nothing needs.

    Attributes:
        kind: `result`, `artifact` or `checkpoint`.
        path: Its path in the store.
        size: Of its files (bytes).
        days: Since it was last used (of a remote store: written).
    """

    kind: str
    path: str
    size: int
    days: float


@dataclass
class Garbage:
    """What would be removed, and what is kept.

    Attributes:
        leftovers: What would be removed.
        kept: How many artifacts are kept.
    """

    leftovers: list[Leftover] = field(default_factory=list)
    kept: int = 0

    @property
    def size(self) -> int:
        """Of all files together (bytes)."""
        return sum(item.size for item in self.leftovers)


def find_garbage(store: Store, tracking: str, days: float) -> Garbage:
    """Look for what nothing needs. Removes nothing.

    Args:
        store: The store.
        tracking: MLflow, which is the registry too.
        days: How long a result may be unused.

    Raises:
        StoreError: The store can't be read.
        ServerUnreachable: MLflow does not answer, so what it needs is unknown.
    """
    found, now = Garbage(), time.time()
    needed = set(registered_artifacts(tracking))
    with store.translate_os_errors("be read"):
        for path, info in _files(store, _RECORDS):
            age = (now - _modified(info)) / _DAY
            if age > days:
                found.leftovers.append(Leftover("result", path, int(info["size"]), age))
            else:
                needed.update(_SHA256.findall(_text(store, path)))
        for path, _ in _files(store, (_DEPLOYED,)):
            needed.update(_SHA256.findall(_text(store, path)))
        found.leftovers += _folders(store, "training", "checkpoint", set(), days, now)
        artifacts = _folders(store, "artifacts", "artifact", needed, 1.0, now)
        found.leftovers += artifacts
        found.kept = len(_names(store, "artifacts")) - len(artifacts)
    return found


def remove(store: Store, garbage: Garbage) -> None:
    """Remove what was found: results first, so that none refers to an artifact that is gone.

    Raises:
        StoreError: The store can't be written.
    """
    order = {"result": 0, "checkpoint": 1, "artifact": 2}
    with store.translate_os_errors("be cleaned"):
        for item in sorted(garbage.leftovers, key=lambda item: order[item.kind]):
            store.fs.rm(f"{store.root}/{item.path}", recursive=item.kind != "result")


def _files(store: Store, folders: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files under folders of the store: path and fsspec's description of each."""
    for folder in folders:
        root = f"{store.root}/{folder}"
        if not store.fs.exists(root):
            continue
        for path, info in store.fs.find(root, detail=True).items():
            yield f"{folder}/{path.partition(f'{root}/')[2]}", info


def _folders(
    store: Store, under: str, kind: str, needed: set[str], days: float, now: float
) -> list[Leftover]:
    """Folders under a folder of the store that are not needed and not young."""
    sizes: dict[str, int] = {}
    times: dict[str, float] = {}
    for path, info in _files(store, (under,)):
        name = PurePosixPath(path).parts[1]
        sizes[name] = sizes.get(name, 0) + int(info["size"])
        times[name] = max(times.get(name, 0.0), _modified(info))
    return [
        Leftover(kind, f"{under}/{name}", size, (now - times[name]) / _DAY)
        for name, size in sorted(sizes.items())
        if name not in needed and (now - times[name]) / _DAY > days
    ]


def _names(store: Store, folder: str) -> list[str]:
    root = f"{store.root}/{folder}"
    return [str(name) for name in store.fs.ls(root, detail=False)] if store.fs.exists(root) else []


def _text(store: Store, path: str) -> str:
    try:
        return str(store.fs.cat_file(f"{store.root}/{path}").decode())
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return ""


def _modified(info: dict[str, Any]) -> float:
    """When a file was written (s since 1970), by whatever the file system calls it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()  # unknown: young, so it stays
