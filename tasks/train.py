"""Train: the model of the recipe, on Ray, from the last checkpoint if there is one."""

from __future__ import annotations

from ..ray_workers.model.module import initial, save_module
from ..ray_workers.training.checkpoints import Checkpoints
from ..ray_workers.training.job import TrainJob
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import StepFailed
from ..recipe.strict import short_name
from .specs.train import TrainFacts, TrainSpec


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
        facts=TrainFacts(best_epoch=best.epoch, validation=best.quality),
    )
