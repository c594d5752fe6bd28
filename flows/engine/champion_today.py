"""Today's champion for a run that compares with it: looked up, verified, and put into the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import JsonValue

from ...ray_workers.dispatch import Done
from ...ray_workers.store.artifacts import Artifact, describe
from ...recipe.schema import Recipe
from ...recipe.targets import AnyTarget, target_class, target_kinds
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.errors import RuntimeFailed
from ...runtimes.opening import runtime
from ...tasks.steps import IMPORTED
from ...tasks.todays_champion import TodaysChampion
from .layout import ChampionEntrant, H
from .session import Session


@dataclass(frozen=True)
class FoundChampion:
    """Today's champion, and its artifact where it can be compared with.

    Attributes:
        today: Which version it is, or why there is none to compare with.
        artifact: Its artifact in the store; None if it can't be compared with.
        runtime: Name of the runtime that opens it.
        options: Further options of what opens it.
        gpu: Whether it runs on a GPU.
    """

    today: TodaysChampion
    artifact: Artifact | None = None
    runtime: str = ""
    options: dict[str, JsonValue] = field(default_factory=dict)
    gpu: bool = False

    @property
    def given(self) -> Done:
        """Its artifact as the result of a step that was not run."""
        assert self.artifact is not None  # noqa: S101 (narrows a type)
        outputs = {"model": self.artifact}
        return Done(outputs=outputs, metrics={}, params={}, facts={}, notes=[], seconds=0)

    def same_as(self, made: Iterable[tuple[str, str, AnyTarget]]) -> str | None:
        """Name of the candidate that is the very same bytes; None if none is.

        Args:
            made: Name, sha256 of the artifact, and target of each candidate.
        """
        if self.artifact is None:
            return None
        for name, sha256, target in made:
            if sha256 == self.artifact.sha256 and dict(target.loader_options) == self.options:
                return name
        return None

    def entrant(self, handle: H) -> ChampionEntrant[H]:
        """It as an input of a layout.

        Args:
            handle: Stands for a step whose output `model` is its artifact.
        """
        return ChampionEntrant(
            version=self.today.said,
            digest=self.today.digest,
            runtime=self.runtime,
            options=self.options,
            gpu=self.gpu,
            model=(handle, "model"),
        )


def find_champion(recipe: Recipe, session: Session) -> FoundChampion | None:
    """Today's champion of the recipe's registered model; None if the recipe compares with none.

    Whatever is wrong with it is said in its description, and fails the gates that compare with it.
    """
    if not recipe.compares_with_champion:
        return None
    from ...tasks.tracking.champion_files import todays_champion

    registry = recipe.registry
    tracking = session.settings.tracking
    with todays_champion(tracking, registry.model, registry.alias) as (today, folder):
        if folder is None:
            return FoundChampion(today)
        try:
            settings = CompiledArtifact.read(folder)
            name = runtime(settings.runtime).NAME
        except RuntimeFailed as error:
            return FoundChampion(today.model_copy(update={"problem": error.what}))
        options: dict[str, JsonValue] = {}
        if name == IMPORTED:
            factory = str(settings.settings.get("factory", ""))
            options = {"factory": factory}
            if options not in [dict(target.loader_options) for target in recipe.targets]:
                problem = f"'{factory}' opens it, which is not a target of this recipe"
                return FoundChampion(today.model_copy(update={"problem": problem}))
        kind = f"champion {name}"
        if session.dry:
            artifact = session.store.located(describe(folder, kind, ""))
        else:
            artifact = session.store.put(folder, kind)
    return FoundChampion(today, artifact, name, options, _needs_gpu(today.candidate))


def _needs_gpu(candidate: str) -> bool:
    target = candidate.partition("@")[2]
    return any(
        target_class(kind).gpu
        for kind in target_kinds()
        if target == kind or target.startswith(f"{kind}-")
    )
