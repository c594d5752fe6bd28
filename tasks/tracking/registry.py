"""Promote: register the winner as a model version, verify its bytes, then move the alias.

Only what was measured is promoted: MLflow's copy is read back, and all its files must be those that
this run measured and logged, before the alias moves, and also where it is to stay as it is. Two
promotions of one model come one after the other (`turn.py`), and each is entered in the ledger.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import Field

from ...recipe.errors import HoneError, InputError
from ...recipe.registry_names import require_names
from ...recipe.strict import Strict
from ...runtimes.manifest import differences, manifest_digest
from ..todays_champion import NO_CHAMPION
from . import names
from .account import account
from .away import insist
from .ledger import Action, Event, Ledger, Record, all_versions, new_intent
from .lookup import found_or_none, number_of, version_of
from .registered_bytes import held_and_proven, held_at, held_files, location, same_store
from .self_proof import what_to_do
from .turn import Turn, turn

_TURN = 300.0  # s that a promotion waits for others of the same model

log = logging.getLogger("hone")


class Promotable(Strict):
    """A logged model that may be promoted, and where it goes.

    Attributes:
        model: Name of the registered model.
        alias: The alias to move; the version that had it gets `previous`.
        model_id: The LoggedModel.
        sha256: Of the artifact that was measured.
        files: sha256 of each file that was logged; MLflow must hold exactly these.
        recipe_digest: Of the recipe that it was measured under.
        description: Of the new version (Markdown).
        model_description: Of the registered model, where nobody has written one.
        tags: Further tags of the new version.
        who: The person or account that promotes; empty for the account of this process.
        why: The reason, for the ledger.
        compared_with: The version that was the champion when gates compared with it, `none` if
            there was none; None if no gate compared with it.
    """

    model: str
    alias: str
    model_id: str
    sha256: str
    files: dict[str, str]
    recipe_digest: str
    description: str = ""
    model_description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    who: str = ""
    why: str = ""
    compared_with: str | None = None

    @property
    def digest(self) -> str:
        """Of all files."""
        return manifest_digest(self.files)

    @property
    def all_tags(self) -> dict[str, str]:
        own = {
            names.SHA256: self.sha256,
            names.RECIPE_DIGEST: self.recipe_digest,
            names.DIGEST: self.digest,
        }
        return {**self.tags, **own}


class Promotion(Strict):
    """The result of a promotion.

    Attributes:
        model: The registered model.
        version: Its version.
        alias: The alias that points to it.
        new: Whether the version is new; else the same bytes under the same recipe had it already.
        previous: The version that had the alias before, if another one had it.
    """

    model: str
    version: str
    alias: str
    new: bool
    previous: str | None


class Registered(Strict):
    """A version that was registered, with no alias moved.

    Attributes:
        model: The registered model.
        version: Its version.
        alias: The alias that a promotion would move.
        new: Whether the version is new.
        current: The version that has the alias; None if none has.
    """

    model: str
    version: str
    alias: str
    new: bool
    current: str | None


def register(
    uri: str, asked: Promotable, tags: dict[str, str] | None = None, wait: float = 120
) -> Registered:
    """Register a logged model as a version, and move no alias.

    Args:
        uri: The tracking server, which is the registry too.
        asked: The model, and where a promotion would take it.
        tags: Tags of the version that say what is to become of it; none if it has the alias.
        wait: How long to wait for a server that is away (s).

    Raises:
        HoneError: MLflow's copy is not what was measured.
        ServerUnreachable: The server stayed away.
    """
    import mlflow

    require_names(asked.model, asked.alias)
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    ledger = Ledger(client, asked.model)
    intent = _intent(asked).model_copy(update={"action": Action.REGISTER})

    def work() -> Registered:
        _ensure_model(client, asked)
        _verify(uri, asked)
        version, new = _find_version(uri, client, asked), False
        if version is None:  # in its turn, so that two at once make one version
            with turn(client, ledger, intent, _TURN) as mine:
                version, new = _registered(uri, client, asked)
                mine.close(Event.ABORTED)
        current = number_of(version_of(client, asked.model, asked.alias))
        if current != str(version.version):
            for name, value in (tags or {}).items():
                client.set_model_version_tag(asked.model, str(version.version), name, value)
        return Registered(
            model=asked.model,
            version=str(version.version),
            alias=asked.alias,
            new=new,
            current=current,
        )

    return insist(work, uri, wait, "the winner is measured but not registered")


def _registered(uri: str, client: Any, asked: Promotable) -> tuple[Any, bool]:
    """The version of these bytes under this recipe, and whether it is new."""
    version = _find_version(uri, client, asked)
    if version is not None:
        return version, False
    created = client.create_model_version(
        asked.model,
        source=f"models:/{asked.model_id}",
        tags=asked.all_tags,
        description=asked.description or None,
        model_id=asked.model_id,
    )
    return created, True


def promote(uri: str, asked: Promotable, wait: float = 120) -> Promotion:
    """Register a logged model and move the alias to it.

    Args:
        uri: The tracking server, which is the registry too.
        asked: The model, and where it goes.
        wait: How long to wait for a server that is away (s).

    Raises:
        HoneError: MLflow's copy is not what was measured, or another promotion takes too long.
        ServerUnreachable: The server stayed away.
    """
    import mlflow

    require_names(asked.model, asked.alias)
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    ledger = Ledger(client, asked.model)
    intent = _intent(asked)

    def work() -> Promotion:
        if (done := ledger.done(intent.intent)) is not None:  # and the answer was lost
            return _promotion(asked, str(done.record.after), new=True, previous=done.record.before)
        _ensure_model(client, asked)
        before = version_of(client, asked.model, asked.alias)
        if before is not None and _is_same(before, asked) and _holds(uri, client, before, asked):
            return _promotion(asked, str(before.version), new=False)
        _verify(uri, asked, prove=True)
        with turn(client, ledger, intent, _TURN) as mine:
            return _promote(uri, client, asked, mine)

    return insist(work, uri, wait, "the winner is measured but not registered")


def _intent(asked: Promotable) -> Record:
    kept = (names.CANDIDATE, names.PARENT_RUN, names.SHA256, names.RECIPE_DIGEST, names.DIGEST)
    return Record(
        event=Event.INTENT,
        action=Action.PROMOTE,
        intent=new_intent(),
        alias=asked.alias,
        who=(asked.who or account())[:300],
        why=asked.why[:2000],
        evidence={name: asked.all_tags[name] for name in kept if name in asked.all_tags},
    )


def _promote(uri: str, client: Any, asked: Promotable, mine: Turn) -> Promotion:
    """The steps of a promotion, in its turn; each can be done twice."""
    before = version_of(client, asked.model, asked.alias)
    intact = True
    if before is not None and dict(before.tags).get(names.DIGEST) == asked.digest:
        intact = _holds(uri, client, before, asked)
        if intact and _is_same(before, asked):  # another run has promoted it meanwhile
            mine.close(Event.ABORTED)
            return _promotion(asked, str(before.version), new=False)
        if not intact:
            _mark_tampered(client, before)
    require_compared(before, asked.compared_with, asked.model, asked.alias)
    version, new = _registered(uri, client, asked)
    mine.claim(version)
    logged = str(client.get_logged_model(asked.model_id).artifact_location)
    if found_or_none(lambda: location(client, version)) != logged and not _holds(
        uri, client, version, asked
    ):
        raise HoneError(
            f"version {version.version} of {asked.model} holds other bytes than those that were "
            "measured; nothing was promoted",
            where=uri,
            do="delete that version and run again",
        )
    held = number_of(before)
    mine.move(held, str(version.version), keep=intact)
    return _promotion(asked, str(version.version), new, held)


def require_compared(current: Any, compared_with: str | None, model: str, alias: str) -> None:
    """Refuse a version whose gates compared it with another champion than today's.

    Args:
        current: The version that has the alias now; None if none has.
        compared_with: The one that it was compared with; None if it was not compared with any.
        model: The registered model.
        alias: The alias.

    Raises:
        InputError: The champion has changed.
    """
    now = number_of(current)
    if compared_with is None or compared_with == (now or NO_CHAMPION):
        return
    then = f"version {compared_with}" if compared_with != NO_CHAMPION else "no version"
    raise InputError(
        f"its gates compared it with the {alias} of that time, {then}; now it is version "
        f"{now or NO_CHAMPION}; nothing was promoted",
        where=f"models:/{model}@{alias}",
        do="run the recipe again: today's champion is then measured beside it",
    )


def _mark_tampered(client: Any, version: Any) -> None:
    said = "its files are not those that were measured"
    log.warning("version %s of %s: %s; it is replaced", version.version, version.name, said)
    client.set_model_version_tag(version.name, str(version.version), names.TAMPERED, said)


def _promotion(
    asked: Promotable, version: str, new: bool, previous: str | None = None
) -> Promotion:
    return Promotion(
        model=asked.model, version=version, alias=asked.alias, new=new, previous=previous
    )


def _ensure_model(client: Any, asked: Promotable) -> None:
    from mlflow.exceptions import MlflowException

    text = asked.model_description or None
    try:
        client.create_registered_model(asked.model, tags={"hone": "true"}, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if text and not client.get_registered_model(asked.model).description:
            client.update_registered_model(asked.model, description=text)


def _is_same(version: Any, asked: Promotable) -> bool:
    held = dict(version.tags)
    return (
        held.get(names.DIGEST) == asked.digest
        and held.get(names.RECIPE_DIGEST) == asked.recipe_digest
    )


def _find_version(uri: str, client: Any, asked: Promotable) -> Any:
    """A version of these bytes under this recipe, such as one that a killed run left behind."""
    for version in all_versions(client, asked.model):
        if _is_same(version, asked) and _holds(uri, client, version, asked):
            return version
    return None


def _holds(uri: str, client: Any, version: Any, asked: Promotable) -> bool:
    """Whether a version holds exactly the measured files; its tags are anybody's.

    A version may name any place; nothing is fetched from outside the store of the logged model.
    """
    logged = str(client.get_logged_model(asked.model_id).artifact_location)
    place = found_or_none(lambda: location(client, version))
    return place is not None and same_store(place, logged) and held_at(uri, place) == asked.files


def _verify(uri: str, asked: Promotable, prove: bool = False) -> None:
    """Compare all files of the logged model with those that this run measured and logged.

    Args:
        uri: The tracking server.
        asked: The model.
        prove: Whether the model must also give the measured outputs here, where its runtime is.

    Raises:
        HoneError: They differ.
    """
    proof = None
    if prove:
        held, proof = held_and_proven(uri, asked.model_id, asked.files)
    else:
        held = held_files(uri, asked.model_id)
    wrong = differences(asked.files, held)
    if wrong or not asked.files:
        which = f"{wrong[0]} differs" if wrong else "nothing was logged"
        if asked.files and not held:
            which = "the files are gone"
        raise HoneError(
            f"MLflow holds other bytes than those that were measured ({which}); nothing was "
            "promoted",
            where=f"models:/{asked.model_id}",
            do="delete the logged model and run again",
        )
    if proof is not None and proof.refuses:
        raise HoneError(
            f"{proof.sentence}; nothing was promoted",
            where=f"models:/{asked.model_id}",
            do=what_to_do(),
        )
