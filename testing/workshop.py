"""The steps of a run without Prefect and MLflow, in this process or on a cluster.

It uses the same layout as `hone run` and `hone plan`. Here a step runs when one of its results is
accessed, once per cache key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ..flows.engine.lay_out import lay_out
from ..flows.engine.layout import Layout
from ..flows.engine.surroundings import here
from ..flows.engine.user_code import identify, pack
from ..ray_workers.cluster import Cluster
from ..ray_workers.dispatch import Done, StepJob, dispatch, execute
from ..ray_workers.store.artifacts import Artifact, Store
from ..ray_workers.store.seal import OwnerKey
from ..recipe.factories import Allowed, use_code
from ..recipe.schema import Recipe
from ..recipe.targets import AnyTarget
from ..runtimes.predict import LoadOptions
from ..tasks.compile import Unavailable
from ..tasks.keys import UserCode, cache_key
from ..tasks.steps import Call

SAMPLES = f"{__package__}.samples"


@dataclass(frozen=True)
class LaidStep:
    """A step of the layout.

    Attributes:
        workshop: Where it runs.
        call: What it is asked to do.
        inputs: For each input, the step that writes it and the name of its output.
        code: Identity of the recipe's code.
    """

    workshop: Workshop
    call: Call
    inputs: dict[str, tuple[LaidStep, str]]
    code: UserCode = field(compare=False)

    @cached_property
    def key(self) -> str:
        digests = {
            name: step.artifact(output).sha256 for name, (step, output) in self.inputs.items()
        }
        return cache_key(self.call, digests, self.code)

    @property
    def done(self) -> Done:
        """Its result; it runs on first access.

        Raises:
            HoneError: It failed.
        """
        kept = self.workshop.kept
        if self.key not in kept:
            kept[self.key] = self.run()
        return kept[self.key]

    def run(self) -> Done:
        """Run it, whether or not it has run before."""
        job = StepJob(
            function=self.call.step.function,
            key=self.key,
            lineage=self.key,
            spec=self.call.spec.model_dump(mode="json"),
            inputs={name: step.artifact(output) for name, (step, output) in self.inputs.items()},
            code=self.workshop.code,
            allowed=self.workshop.allowed,
            store=self.workshop.store.url,
            cache=str(self.workshop.store.cache),
            cpus=self.call.cpus,
        )
        cluster = self.workshop.cluster
        if cluster is not None:
            return dispatch(job, cluster, lambda _: None)
        return execute(job, lambda _: None)

    def artifact(self, output: str) -> Artifact:
        return self.done.outputs[output]

    def folder(self, output: str) -> Path:
        """The files of an output."""
        return self.workshop.store.fetch(self.artifact(output))


class Workshop:
    """Runs steps, and caches their results.

    Args:
        folder: For everything that it writes.
        code: A folder with your modules, put on the import path; None: they are installed.
        prefixes: Your packages whose functions a recipe may name, besides the code folder's.
        cluster: Where steps run, for passes that train; None: in this process.
    """

    def __init__(
        self,
        folder: Path,
        code: Path | None = None,
        prefixes: Sequence[str] = (),
        cluster: Cluster | None = None,
    ) -> None:
        if code is not None:
            use_code(code)
        own = Allowed.from_environment(code)
        self.allowed = own.model_copy(update={"prefixes": (*own.prefixes, SAMPLES, *prefixes)})
        self.store = Store(str(folder / "store"), folder / "cache", OwnerKey(folder))
        self.kept: dict[str, Done] = {}
        self.cluster = cluster
        self.code = None if code is None else pack(code, self.store)
        self._folder = code

    def recipe(self, model: str = f"{SAMPLES}:perceptron", **fields: Any) -> Recipe:
        """A recipe on the small data set that uses the factory's model as it is.

        Args:
            model: Import path of the model's factory.
            fields: Fields to override, as in a recipe file.
        """
        return Recipe.model_validate(
            {
                "name": "workshop",
                "model": {"factory": model},
                "data": {"factory": f"{SAMPLES}:rows"},
                "train": {"epochs": 0, "batch_size": 32},
                "targets": ["onnxruntime-cpu"],
                "registry": {"model": "workshop"},
                **fields,
            }
        )

    def lay_out(self, recipe: Recipe) -> Layout[LaidStep]:
        """The steps of a recipe; each runs on first access."""
        code, _ = identify(recipe, self._folder)

        def submit(
            call: Call,
            inputs: dict[str, tuple[LaidStep, str]],
            after: Sequence[LaidStep] = (),
        ) -> LaidStep:
            return LaidStep(self, call, inputs, code)

        return lay_out(recipe, here(self.allowed, self._folder), submit)

    def availability(self, target: AnyTarget) -> Unavailable | None:
        """Returns None for a target that runs here, else why it does not."""
        return here(self.allowed, self._folder).availability(target)

    def loader_options(self, further: Mapping[str, Any]) -> LoadOptions:
        """Options for what opens an artifact, on one thread."""
        if not further:
            return {"threads": 1}
        code = None if self._folder is None else str(self._folder)
        allowed = self.allowed.model_dump(mode="json")
        options = {"threads": 1, **further, "code": code, "allowed": allowed}
        return cast(LoadOptions, options)
