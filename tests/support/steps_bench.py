"""Step functions run in this process, as a worker would run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from prefect_hone.ray_workers.data import turns
from prefect_hone.ray_workers.dispatch import Done, StepJob, execute
from prefect_hone.ray_workers.store.artifacts import Artifact, Store
from prefect_hone.recipe.factories import Allowed, use_code
from safetensors.torch import save_model

MODEL = {"factory": "wine_model:net", "args": {}}
DATA = {"factory": "wine_data:wine", "args": {}}
BASE = {"model": MODEL, "data": DATA, "metric": "accuracy", "seed": 0}
TRAINED = {"train": {"epochs": 1, "batch_size": 16}}


class InMemory(turns.Turns):
    """`Shared` within this process."""

    def settle(self, key: str, content: bytes | None) -> Any:
        super().settle(key, content)
        return content

    def content(self, reference: Any) -> bytes | None:
        return reference  # type: ignore[no-any-return]


class Bench:
    """Runs step functions as a worker would.

    An export takes longer than most of what is done with the graph, so a bench exports each model
    once.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        use_code(project)
        self.store = Store(str(folder / "store"), folder / "cache")
        self.allowed = Allowed.from_environment(project)
        self.folder = folder
        self.shared: turns.Shared | None = None
        self._graphs: dict[str, tuple[Artifact, Artifact]] = {}

    def run(self, function: str, spec: dict[str, Any], **inputs: Artifact) -> Done:
        job = StepJob(
            function=f"prefect_hone.tasks.{function}", key="k", lineage="k", spec=spec, inputs=inputs, code=None,
            allowed=self.allowed, store=self.store.url, cache=str(self.store.cache),
            watch_memory=function.startswith("compile"),
        )  # fmt: skip
        return execute(job, lambda _: None, self.shared)

    def weights(self, factory: str = "wine_model:net") -> Artifact:
        torch.manual_seed(0)
        folder = self.folder / "weights"
        folder.mkdir(exist_ok=True)
        save_model(self.allowed.call(factory, {}, "model"), str(folder / "model.safetensors"))
        return self.store.put(folder, "weights")

    def check(self, loss: str = "cross_entropy", **changed: Any) -> Done:
        """The step `check` of the project's recipe with other fields; the loss is the training's."""
        spec = {**BASE, **TRAINED, **changed}
        return self.run("check:check", {**spec, "train": {"loss": loss, **spec["train"]}})

    def graph(self, factory: str = "wine_model:net") -> tuple[Artifact, Artifact]:
        """The exported graph of a model, and calibration samples."""
        if factory not in self._graphs:
            self._graphs[factory] = self._exported(factory)
        return self._graphs[factory]

    def _exported(self, factory: str) -> tuple[Artifact, Artifact]:
        calibration = self.check(model={"factory": factory, "args": {}}).outputs["calibration"]
        done = self.run(
            "export:export", {"model": {"factory": factory, "args": {}}},
            weights=self.weights(factory), inputs=calibration,
        )  # fmt: skip
        return done.outputs["graph"], calibration
