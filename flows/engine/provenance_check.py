"""What a statement of provenance says, recomputed here item by item.

A statement (`tasks/report/provenance.py`) is a file of a run, not signed: whoever may write
MLflow's artifacts may change it. So each item is compared with something else: the registry's
bytes, the store's artifacts and signed records, and this environment and machine.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from ..._version import __version__
from ...ray_workers.processor import processor
from ...ray_workers.store.artifacts import Store
from ...recipe.schema import digest_of
from ...recipe.strict import Strict
from ...tasks.keys import library_version
from ...tasks.report.provenance import PREDICATE, STATEMENT

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"pkg:pypi/(?P<name>[A-Za-z0-9._-]+)@(?P<version>[A-Za-z0-9.+!_-]+)")
_MOST = 5_000  # items


class Result(StrEnum):
    """What came of recomputing an item."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "not checked"


class Kind(StrEnum):
    """Kinds of items. What differs is an error, but for the environment and the machine."""

    ARTIFACT = "artifact"
    RECIPE = "recipe"
    CODE = "code"
    DATA = "data"
    STEP = "step"
    SOURCE = "source"
    LIBRARY = "library"
    MACHINE = "machine"


_OF_HERE = (Kind.LIBRARY, Kind.MACHINE)


class Item(Strict):
    """An item of a statement.

    Attributes:
        kind: What it is.
        name: Its name in the statement.
        result: What came of it.
        said: What was found, in words.
    """

    kind: Kind
    name: str
    result: Result
    said: str

    @property
    def is_wrong(self) -> bool:
        """Whether it says that the version was not made as it is stated."""
        return self.result is Result.DIFFERS and self.kind not in _OF_HERE


class Provenance(Strict):
    """A version's statement, recomputed.

    Attributes:
        run_id: The run that has the statement; empty if there is none.
        items: Its items.
        why: Why there are none; empty if there are.
    """

    run_id: str
    items: tuple[Item, ...] = ()
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing says that the version was not made as it is stated."""
        return not any(item.is_wrong for item in self.items)

    @property
    def sentence(self) -> str:
        if self.why:
            return f"its provenance can't be looked at: {self.why}"
        counts = {r: sum(i.result is r for i in self.items) for r in Result}
        wrong = sum(i.is_wrong for i in self.items)
        here = counts[Result.DIFFERS] - wrong
        parts = [f"{counts[Result.HOLDS]} of {len(self.items)} items hold"]
        if wrong:
            parts.append(f"{wrong} differ{'s' if wrong == 1 else ''}")
        if here:
            parts.append(f"{here} of this environment or machine differ{'s' if here == 1 else ''}")
        if counts[Result.UNKNOWN]:
            parts.append(f"{counts[Result.UNKNOWN]} can't be looked at")
        return f"provenance (run {self.run_id}): {', '.join(parts)}"


def recomputed(
    run_id: str, text: str, artifact: str, registered: str | None, store: Store
) -> Provenance:
    """Recompute a statement's items.

    Args:
        run_id: The run that has it.
        text: The statement.
        artifact: sha256 of the compiled artifact that the registry holds.
        registered: Digest of the recipe as the registry has it; None if it has none.
        store: The store.

    Raises:
        StoreError: The store can't be read.
    """
    try:
        said = json.loads(text)
        if said["_type"] != STATEMENT or said["predicateType"] != PREDICATE:
            raise ValueError("of another type")
        items = []
        for item in _items(said, artifact, registered, store):
            items.append(item)
            if len(items) > _MOST:
                raise ValueError("too long")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Provenance(run_id=run_id, why="it is not a statement that this Hone can read")
    return Provenance(run_id=run_id, items=tuple(items))


def _items(
    said: dict[str, Any], artifact: str, registered: str | None, store: Store
) -> Iterator[Item]:
    built = said["predicate"]["buildDefinition"]
    details = said["predicate"]["runDetails"]
    for subject in said["subject"]:
        yield _same(Kind.ARTIFACT, subject["name"], _sha256(subject), artifact, "the registry")
    yield _recipe(built["externalParameters"], registered)
    for one in built["resolvedDependencies"]:
        yield _dependency(one, store)
    for product in details["byproducts"]:
        yield _product(product, store)
    inside = built["internalParameters"]
    yield _here("processor", inside["processor"], str(processor()))
    python = f"Python {platform.python_version()}"
    yield _here("system", inside["system"], f"{platform.system()} {platform.release()}, {python}")
    yield _library("prefect-hone", details["builder"]["version"]["hone"], __version__)


def _recipe(stated: Mapping[str, Any], registered: str | None) -> Item:
    digest = str(stated["recipe_digest"])
    if registered is not None and registered != digest:
        said = f"the registry has {registered[:12]}, the statement {digest[:12]}"
        return Item(kind=Kind.RECIPE, name="recipe", result=Result.DIFFERS, said=said)
    recipe = stated["recipe"]
    return _same(Kind.RECIPE, str(recipe["name"]), digest, digest_of(recipe), "the stated recipe")


def _dependency(one: Mapping[str, Any], store: Store) -> Item:
    name, uri = str(one["name"]), str(one.get("uri", ""))
    if "digest" in one:
        kind = Kind.CODE if name == "code" else Kind.DATA
        return _kept(kind, name, _sha256(one), store)
    package = _PACKAGE.fullmatch(uri)
    if package is not None:
        return _library(package["name"], package["version"], library_version(package["name"]))
    said = f"{uri}: the sources are not kept with the run"
    return Item(kind=Kind.SOURCE, name=name, result=Result.UNKNOWN, said=said)


def _product(product: Mapping[str, Any], store: Store) -> Item:
    """An artifact that a step wrote: its bytes, and what the signed record of the step says."""
    name, digest = str(product["name"]), _sha256(product)
    key = str(product["annotations"]["step_key"])
    if _DIGEST.fullmatch(key) is None:
        raise ValueError("not a key")
    recorded = store.recorded_outputs(key)
    output = name.rpartition("/")[2]
    if recorded is not None and recorded.get(output) != digest:
        was = str(recorded.get(output, "none"))
        said = f"the step's record has {was[:12]}, the statement {digest[:12]}"
        return Item(kind=Kind.STEP, name=name, result=Result.DIFFERS, said=said)
    item = _kept(Kind.STEP, name, digest, store)
    if item.result is Result.UNKNOWN and recorded is not None:
        said = f"as in the step's signed record; {item.said}"
        return item.model_copy(update={"result": Result.HOLDS, "said": said})
    return item


def _kept(kind: Kind, name: str, digest: str, store: Store) -> Item:
    """An artifact in the store."""
    if not store.local:
        said = "the store is remote, and its files are not downloaded for this"
        return Item(kind=kind, name=name, result=Result.UNKNOWN, said=said)
    found = store.digest_now(digest)
    if found is None:
        said = "the store does not have it any more"
        return Item(kind=kind, name=name, result=Result.UNKNOWN, said=said)
    return _same(kind, name, digest, found, "the store")


def _same(kind: Kind, name: str, stated: str, found: str, who: str) -> Item:
    if found == stated:
        return Item(kind=kind, name=name, result=Result.HOLDS, said=f"sha256 {stated[:12]}")
    said = f"{who} has {found[:12] or 'something else'}, the statement {stated[:12]}"
    return Item(kind=kind, name=name, result=Result.DIFFERS, said=said)


def _library(name: str, stated: str, here: str) -> Item:
    same = here == stated
    found = "not installed here" if here == "none" else f"{here} here"
    return Item(
        kind=Kind.LIBRARY,
        name=name,
        result=Result.HOLDS if same else Result.DIFFERS,
        said=stated if same else f"{found}, {stated} stated",
    )


def _here(name: str, stated: str, here: str) -> Item:
    if not stated:
        said = "the statement does not say"
        return Item(kind=Kind.MACHINE, name=name, result=Result.UNKNOWN, said=said)
    same = stated == here
    said = stated if same else f"{here} here, {stated} stated"
    result = Result.HOLDS if same else Result.DIFFERS
    return Item(kind=Kind.MACHINE, name=name, result=result, said=said)


def _sha256(one: Mapping[str, Any]) -> str:
    """Of a resource descriptor.

    Raises:
        ValueError: It has none: a digest becomes a part of a path.
    """
    digest = str(one["digest"]["sha256"])
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError("not a digest")
    return digest
