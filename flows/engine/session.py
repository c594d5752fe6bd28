"""The session of a run: everything that is not in the recipe, such as the observer and the code
folder that it may call.

These are deliberately not flow parameters: a recipe from a user interface must not be able to grant
itself a code folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...ray_workers.cluster import Cluster
from ...ray_workers.limited import within
from ...ray_workers.store.artifacts import Store
from ...ray_workers.store.seal import OwnerKey
from ...recipe.access_policy import AccessPolicy, Origin
from ...recipe.errors import StoreError
from ...recipe.factories import Allowed
from ...recipe.library_messages import telling
from ...recipe.schema import Recipe
from ...recipe.showable import restored
from ...tasks.keys import UserCode
from .home import open_home
from .observer import Observer, Silent
from .recipe_secrets import without_credentials
from .settings import Settings
from .user_code import identify

if TYPE_CHECKING:
    from .plan import Plan


@dataclass
class Session:
    """The session of one run.

    Attributes:
        recipe: The recipe that it was made for, without credentials.
        settings: Locations of stores and servers.
        access: What the recipe may reach, by where it comes from.
        code: The recipe's code folder, if a person runs a recipe file.
        user_code: Identity of the code that the factories come from.
        observer: The observer.
        cluster: Ray.
        store: Artifacts and step records.
        place: Folder of the recipe, whose git commit is recorded.
        owns_cluster: Whether the flow closes the cluster; else the creator of the session does.
        plan: The plan, if the command that starts the flow has made one.
        redo: Steps to compute again although their results are in the store (`redo.py`).
        secrets: The given recipe's texts with credentials, by what stands for them in `recipe`.
        kept: Place in the store of each file, folder or MLflow model that the recipe names, copied
            once at the start of a run.
        dry: Whether files that the recipe names are only looked at, and not put into the store;
            nothing is downloaded.
        notes: What a dry session could not look at, in sentences.
    """

    recipe: Recipe
    settings: Settings
    access: AccessPolicy
    code: Path | None
    user_code: UserCode
    observer: Observer
    cluster: Cluster
    store: Store
    place: Path | None = None
    owns_cluster: bool = True
    plan: Plan | None = None
    redo: tuple[str, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    kept: dict[str, str] = field(default_factory=dict)
    dry: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def allowed(self) -> Allowed:
        """Which factories may be called."""
        return self.access.factories

    def with_secrets(self, text: str) -> str:
        """What stands in the recipe or in a record, as what opens it needs it."""
        return str(restored(text, self.all_secrets))

    def with_credentials(self, recipe: Recipe) -> Recipe:
        """The recipe for this process's own use: never kept, never shown."""
        secrets = self.all_secrets
        return (
            Recipe.model_validate(restored(recipe.model_dump(mode="json"), secrets))
            if secrets
            else recipe
        )

    @property
    def all_secrets(self) -> dict[str, str]:
        """Texts with credentials, of the recipe and of the store, by what stands for them."""
        return {**self.secrets, **self.store.secrets}

    def planned(self, plan: Plan) -> Session:
        """The same session with a plan, for a command's flow; the command closes the cluster."""
        return replace(self, plan=plan, owns_cluster=False)


def new_session(
    recipe: Recipe,
    *,
    code: Path | None = None,
    observer: Observer | None = None,
    place: Path | None = None,
    origin: Origin = Origin.PARAMETER,
    redo: Sequence[str] = (),
) -> Session:
    """A session for a recipe.

    Args:
        recipe: The recipe.
        code: Its code folder, only if a person runs a recipe file.
        observer: The observer.
        place: Folder of the recipe's file.
        origin: Where the recipe comes from.
        redo: Steps to compute again.

    Raises:
        InputError: A factory lies outside the allowed prefixes, or the recipe is one that a run
            kept without its credentials.
    """
    settings = Settings.from_environment()
    open_home(settings.home)
    access = AccessPolicy.from_environment(origin, code)
    for path, where in recipe.factories():
        access.factories.check(path, where)
    shown, secrets = without_credentials(recipe)
    user_code, outside = identify(shown, code)
    lent = access.factories.model_copy(update={"outside": outside})
    return Session(
        recipe=shown,
        settings=settings,
        access=access.model_copy(update={"factories": lent}),
        code=code,
        user_code=user_code,
        observer=observer or Silent(),
        cluster=Cluster(settings.ray_address, runtime=settings.ray_runtime, logs=settings.logs),
        store=open_store(settings),
        place=place,
        redo=tuple(redo),
        secrets=secrets,
    )


_STORE_SECONDS = 20.0


def open_store(settings: Settings) -> Store:
    """The artifact store; a remote one is asked for something first.

    Raises:
        StoreError: It can't be opened, or does not answer.
    """
    where = f"HONE_STORE={settings.store}"
    do = "check HONE_STORE, its credentials, and that its server runs"

    def opened() -> Store:
        store = Store(settings.store, settings.cache, OwnerKey(settings.home))
        if not store.local:
            store.read_record("steps/none.json")
        return store

    late = StoreError(f"it did not answer within {_STORE_SECONDS:g} s", where=where, do=do)
    if "://" not in settings.store:
        return opened()
    try:
        return within(_STORE_SECONDS, opened, lambda: late)
    except StoreError:
        raise
    except Exception as error:  # each file system raises its own library's errors
        raise StoreError(f"it can't be read: {telling(error)}", where=where, do=do) from error


_current: ContextVar[Session | None] = ContextVar("hone_session", default=None)


@contextlib.contextmanager
def use(session: Session) -> Iterator[Session]:
    """Run flows within a session."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def in_session() -> Session | None:
    """The session that a command made for the flow that it starts."""
    return _current.get()
