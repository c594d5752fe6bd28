"""Deployed recipes: a recipe with its code and its model's files in the store, for any worker.

`hone deploy FILE` keeps it under the sha256 of its files, and the deployment's parameter names it
as `store:SHA256`. Whoever may write records of the store may deploy; a worker verifies every byte.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from ...ray_workers.scratch import scratch_folder
from ...ray_workers.store.artifacts import Artifact, Store
from ...recipe.errors import InputError
from ...recipe.regular_files import copy_regular
from ...recipe.schema import Recipe
from ...recipe.strict import Strict
from .pinned_model import pinned
from .session import Session
from .shipped_code import shipped_code

PREFIX = "store:"
_NAME = re.compile(r"^store:([0-9a-f]{64})$")
_FILE = "recipe.yaml"
_CODE = "code"


class _Deployed(Strict):
    """The record of a deployed recipe.

    Attributes:
        folder: Its recipe file and its code.
        kept: Place in the store of each file, folder or MLflow model that it names.
    """

    folder: Artifact
    kept: dict[str, str] = Field(default_factory=dict)


def keep_recipe(recipe: Recipe, session: Session) -> str:
    """Put a recipe, its code and its model's files into the store.

    Returns:
        What a flow's parameter calls it: `store:SHA256`.

    Raises:
        InputError: A file that it names can't be read, or it has credentials.
        StoreError: The store can't be written.
    """
    if session.secrets:
        raise InputError(
            "a deployed recipe is kept in the store, and can't hold credentials: "
            f"{', '.join(session.secrets)}"[:300],
            where="recipe",
            do="leave them out, and give them to the worker's environment (AWS_ACCESS_KEY_ID, "
            "~/.netrc) or its HoneServers block",
        )
    pinned(recipe, session)
    values = recipe.model_dump(mode="json", exclude_unset=True)
    with scratch_folder("deploy") as scratch:
        if session.code is not None:
            values["code"] = _CODE
            for relative, path in shipped_code(session.code, recipe).files.items():
                copy_regular(path, Path(scratch) / _CODE / relative, f"code: {relative}")
        (Path(scratch) / _FILE).write_text(
            yaml.safe_dump(values, sort_keys=False), encoding="utf-8"
        )
        folder = session.store.put(Path(scratch), "recipe")
    record = _Deployed(folder=folder, kept=session.kept)
    session.store.write_record(_record(folder.sha256), record.model_dump(mode="json"))
    return f"{PREFIX}{folder.sha256}"


def open_kept(name: str, store: Store) -> tuple[Path, dict[str, str]]:
    """The file of a deployed recipe on this machine, verified, and what it names in the store.

    Raises:
        InputError: The store holds no such recipe.
        StoreError: Its bytes are not those that were deployed.
    """
    match = _NAME.match(name)
    said = store.read_record(_record(match.group(1))) if match else None
    try:
        record = None if said is None else _Deployed.model_validate(said)
    except ValidationError:
        record = None
    if match is None or record is None or record.folder.sha256 != match.group(1):
        raise InputError(
            "the recipe was not deployed with this worker's key"
            if store.refused
            else "the store holds no such deployed recipe",
            where=f"recipe: {name}",
            do="give the worker the same HONE_STORE_KEY_FILE as `hone deploy`, or deploy again"
            if store.refused
            else f"deploy it again with `hone deploy`; this worker's store is {store.url}",
        )
    return store.fetch(record.folder) / _FILE, record.kept


def _record(sha256: str) -> str:
    return f"recipes/{sha256}.json"
