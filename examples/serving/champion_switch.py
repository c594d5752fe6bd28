"""Serves whichever version is the champion, and changes over without dropping a request.

It needs MLflow and the champion's own requirements; nothing of Hone's but the wheel that travels
with the model. Copy it into your own server, as `asgi_app.py` and `ray_serve_app.py` use it.

A thread asks the registry for the alias. A new version is loaded beside the one that answers;
loading compares its files with the registry's digest and runs its proof, so a version that is not
what was measured never answers. Then one reference is replaced: requests that have begun end with
the version that they began with. Every answer says which version gave it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlflow

log = logging.getLogger("champion")

#: Versions that stay loaded: the champion, and the one before, for a rollback at once.
KEPT = 2


@dataclass(frozen=True)
class Served:
    """A loaded version.

    Attributes:
        version: Its number.
        model: What MLflow loaded.
    """

    version: str
    model: Any
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def predict(self, inputs: Any) -> Any:
        """Outputs for a batch. Not every runtime can be called by two threads at once."""
        with self._one_at_a_time:
            return self.model.predict(inputs)


def load_here(name: str, version: str) -> Any:
    """A version, loaded into this process.

    Raises:
        Exception: It is not what was measured, or its runtime is not installed.
    """
    return mlflow.pyfunc.load_model(f"models:/{name}/{version}")


class ChampionSwitch:
    """The present champion of a registered model.

    Args:
        name: The registered model.
        alias: The alias to follow.
        seconds: How often the registry is asked.
        retry: How long after a version was refused it is tried again (s).
        load: From the model's name and a version to what `Served.model` is.
    """

    def __init__(
        self,
        name: str,
        alias: str = "champion",
        seconds: float = 5.0,
        retry: float = 60.0,
        load: Callable[[str, str], Any] = load_here,
    ) -> None:
        self._load_version = load
        self._name, self._alias, self._seconds, self._retry = name, alias, seconds, retry
        self._client = mlflow.MlflowClient()
        self._kept: dict[str, Served] = {}
        self._refused: dict[str, float] = {}
        self._served: Served | None = None
        self._wake, self._end = threading.Event(), False
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> ChampionSwitch:
        """Load the champion and follow the alias.

        Raises:
            Exception: There is no champion, or it does not load; MLflow's or Hone's own error.
        """
        version = self._champion()
        self._served = self._load(version)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop following the alias, and let go of the versions."""
        self._end = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._kept.clear()
        self._served = None

    def poke(self) -> None:
        """Ask the registry now: for a webhook, whose content need not be trusted for this."""
        self._wake.set()

    @property
    def served(self) -> Served:
        """The version that answers. Take it once per request."""
        if self._served is None:
            raise RuntimeError("start() has not been called")
        return self._served

    def check(self) -> None:
        """Change over to the champion if it is another version by now.

        Whatever fails, the version that answers goes on answering.
        """
        while True:
            try:
                version = self._champion()
            except Exception as error:
                log.warning("the registry does not tell the champion: %s", error)
                return
            if version == self.served.version or self._was_refused(version):
                return
            try:
                loaded = self._load(version)
            except Exception as error:
                self._refused[version] = time.monotonic()
                log.error(
                    "version %s of %s does not load, so version %s goes on: %s",
                    version, self._name, self.served.version, error,
                )  # fmt: skip
                return
            with contextlib.suppress(Exception):
                if self._champion() != version:
                    continue  # it was replaced while it was loaded
            before, self._served = self.served, loaded
            log.info("version %s of %s answers, after %s", version, self._name, before.version)
            return

    def _follow(self) -> None:
        while True:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._end:
                return
            self.check()

    def _champion(self) -> str:
        found = self._client.get_model_version_by_alias(self._name, self._alias)
        return str(found.version)

    def _load(self, version: str) -> Served:
        if version not in self._kept:
            self._kept[version] = Served(version, self._load_version(self._name, version))
        self._kept[version] = self._kept.pop(version)  # the latest last
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]  # whoever predicts with it still holds it
        self._refused.pop(version, None)
        return self._kept[version]

    def _was_refused(self, version: str) -> bool:
        return time.monotonic() - self._refused.get(version, -self._retry) < self._retry
