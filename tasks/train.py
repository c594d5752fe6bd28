"""Train: the model of the recipe, on Ray, from the last checkpoint if there is one."""

from __future__ import annotations

import math
import sys

from ..ray_workers.events import Metric
from ..ray_workers.model.module import initial, save_module
from ..ray_workers.training.checkpoints import Checkpoints
from ..ray_workers.training.job import TrainJob
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import StepFailed
from ..recipe.strict import short_name
from .specs.train import Curve, TrainFacts, TrainSpec


def train(work: Workspace[TrainSpec]) -> Result:
    """Train, or use the model as it is. Output: `weights`, the best ones.

    Raises:
        HoneError: What a worker raised; StepCrashed, which is retried, if one died.
    """
    from ..ray_workers.training.launch.actors import fit

    url = f"{work.store_url}/training/{work.lineage}"
    job = TrainJob(
        **dict(work.spec),
        allowed=work.allowed,
        checkpoints=url,
        checkpoint_key=work.checkpoint_key,
    )
    if job.train.epochs == 0:
        model = initial(job.model, work.allowed)
        save_module(model, [], work.output("weights", "weights"))
        return Result(notes=["no training: the model is taken as the factory gives it"])
    fit(job, work)
    folder = work.output("weights", "weights")
    checkpoints = Checkpoints(url, job.higher_is_better, key=job.checkpoint_key)
    best = checkpoints.best()
    if best is None or best.quality is None:
        raise StepFailed("training ended without a checkpoint", where=url)
    checkpoints.export(best, folder)
    return Result(
        metrics={f"validation/best_{short_name(job.metric)}": best.quality},
        params={"train/best_epoch": best.epoch},
        facts=TrainFacts(
            best_epoch=best.epoch,
            validation=best.quality,
            curves=_curves(checkpoints.history(sys.maxsize), short_name(job.metric)),
        ),
    )


def _curves(history: list[Metric], metric: str) -> dict[str, Curve]:
    """What a report draws of a training."""
    shown = ("train/loss", "validation/loss", f"validation/{metric}", "train/learning_rate")
    points: dict[str, dict[int, float]] = {name: {} for name in shown}
    for event in history:  # after a recovery a step may be there twice: the later one holds
        if event.name in points and math.isfinite(event.value):
            points[event.name][event.step] = event.value
    return {name: Curve.thinned(sorted(found.items())) for name, found in points.items() if found}
