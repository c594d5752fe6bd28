"""The training loop, read top to bottom. It runs in every worker of the process group.

The global batch is the recipe's, whatever the number of workers: each step's samples are one
seeded draw, dealt out over the ranks, and the loss is weighted so that the averaged gradient is
that of the whole batch, the last smaller one included.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ...recipe.errors import InputError, StepFailed
from ..metrics import metric as load_metric
from ..splits import Splits, batches, call, in_batches, move, split
from ..workspace import Event, Report
from .checkpoints import Checkpoints
from .job import TrainJob
from .losses import make_loss
from .optim import make_optimizer, make_schedule
from .system import SystemMonitor

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_LIVE_SECONDS = 0.3


def train_loop(job: TrainJob, report: Report) -> None:
    """Train, from the last checkpoint if there is one, and leave the checkpoints.

    Args:
        job: What to train.
        report: Takes events; only rank 0's are of use.

    Raises:
        InputError: The factories, or what they made, can't be trained.
        StepFailed: The loss became NaN or infinite; the last checkpoint stays.
    """
    spec, ranks = job.train, _Ranks.here()
    if spec.precision == "fp16" and ranks.device.type != "cuda":
        raise InputError("fp16 training needs a GPU, and this worker has none", where="train")
    torch.manual_seed(spec.seed)
    splits = split(job.allowed.call(job.data.factory, job.data.args, "data.factory"), spec.seed)
    plain = job.allowed.call(job.model.factory, job.model.args, "model.factory")
    if not isinstance(plain, torch.nn.Module):
        raise InputError(
            f"the factory returned a {type(plain).__name__}, expected a torch.nn.Module",
            where="model.factory",
        )
    plain.to(ranks.device)
    model = DistributedDataParallel(plain) if ranks.world > 1 else plain
    loss_of = make_loss(spec.loss, job.allowed)
    optimizer = make_optimizer(spec.optimizer, plain.parameters())
    steps_per_epoch = math.ceil(len(splits.train) / spec.batch_size)
    steps = spec.epochs * steps_per_epoch
    schedule = make_schedule(spec.schedule, optimizer, steps)
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=spec.precision == "fp16")

    checkpoints = Checkpoints(job.checkpoints, job.higher_is_better)
    log = _Log(report, enabled=ranks.rank == 0)
    first_epoch = 0
    if (state := checkpoints.load_latest(plain)) is not None:
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        scaler.load_state_dict(state["scaler"])
        first_epoch = state["epoch"] + 1
        log.restore(state["history"])
        log.note(f"goes on after epoch {first_epoch} of {spec.epochs}, from its last checkpoint")
    # Nobody may write a checkpoint while another rank still reads the last one.
    ranks.barrier()

    step = first_epoch * steps_per_epoch
    with SystemMonitor(log.metric, enabled=ranks.rank == 0) as monitor:
        for epoch in range(first_epoch, spec.epochs):
            model.train()
            torch.manual_seed(_mixed_seed(spec.seed, epoch, ranks.rank))
            epoch_started = time.perf_counter()
            mine, counts = _deal(len(splits.train), spec.batch_size, spec.seed, epoch, ranks)
            for (inputs, target), (own, whole) in zip(
                batches(splits, splits.train, mine), counts, strict=True
            ):
                inputs, target = move(inputs, ranks.device), target.to(ranks.device)
                weight = own * ranks.world / whole  # the mean over ranks is the batch's mean
                with _autocast(spec.precision, ranks.device):
                    loss = loss_of(call(model, inputs), target) * weight
                mean_loss = ranks.mean(loss)
                if not math.isfinite(mean_loss):
                    raise StepFailed(
                        f"the loss became {mean_loss} at step {step} (epoch {epoch + 1})",
                        where="train",
                        do="lower optimizer.lr, add schedule.warmup or clip_grad_norm. "
                        + _kept(checkpoints),
                    )
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                if spec.clip_grad_norm is not None:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(plain.parameters(), spec.clip_grad_norm)
                rate = schedule.get_last_lr()[0]
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                log.metric("train/loss", mean_loss, step)
                log.metric("train/learning_rate", rate, step)
                step += 1
                log.live(epoch, spec.epochs, step, steps, mean_loss)
            seconds = time.perf_counter() - epoch_started
            log.metric("train/samples_per_s", len(splits.train) / seconds, step - 1)
            quality, validation_loss = _validate(job, model, splits, loss_of, ranks)
            log.metric("validation/loss", validation_loss, step - 1)
            log.metric(f"validation/{job.metric}", quality, step - 1)
            monitor.sample(step - 1)
            if ranks.rank == 0:
                rest = {
                    "epoch": epoch,
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "scaler": scaler.state_dict(),
                    "history": log.history,
                }
                checkpoints.save(epoch, quality, plain, rest)
            log.epoch(epoch, spec.epochs, mean_loss, job.metric, quality)
    ranks.barrier()


@dataclass(frozen=True)
class _Ranks:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @staticmethod
    def here() -> _Ranks:
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())
        if not dist.is_initialized():
            return _Ranks(0, 1, device)
        return _Ranks(dist.get_rank(), dist.get_world_size(), device)

    def mean(self, value: torch.Tensor) -> float:
        """A scalar averaged over all ranks."""
        value = value.detach().clone().float()
        if self.world > 1:
            dist.all_reduce(value)
        return float(value) / self.world

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()


def _deal(
    samples: int, batch_size: int, seed: int, epoch: int, ranks: _Ranks
) -> tuple[list[Sequence[int]], list[tuple[int, int]]]:
    """This rank's indices of each step, and how many of the step's samples are its own.

    No sample is seen twice in an epoch. A rank that gets none of a last small batch computes one
    of its samples with weight 0, because every rank must take part in the gradient's reduction.
    """
    generator = torch.Generator().manual_seed(_mixed_seed(seed, epoch, 0))
    order = torch.randperm(samples, generator=generator).tolist()
    mine: list[Sequence[int]] = []
    counts: list[tuple[int, int]] = []
    for batch in in_batches(order, batch_size):
        own = batch[ranks.rank :: ranks.world]
        mine.append(own or batch[:1])
        counts.append((len(own), len(batch)))
    return mine, counts


def _mixed_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


def _autocast(precision: str, device: torch.device) -> Any:
    dtype = _AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _validate(
    job: TrainJob, model: Any, splits: Splits, loss_of: Any, ranks: _Ranks
) -> tuple[float, float]:
    """The metric and the mean loss on the validation split, each sample counted once."""
    measure = load_metric(job.metric)
    model.eval()
    module = model.module if isinstance(model, DistributedDataParallel) else model
    indices = list(range(len(splits.validation)))[ranks.rank :: ranks.world]
    groups = in_batches(indices, max(1, job.train.batch_size // ranks.world))
    parts: list[tuple[Sequence[int], Any, float]] = []
    for group, (inputs, target) in zip(
        groups, batches(splits, splits.validation, groups), strict=True
    ):
        with torch.no_grad(), _autocast(job.train.precision, ranks.device):
            outputs = call(module, move(inputs, ranks.device))
            loss = loss_of(outputs, target.to(ranks.device))
        statistics = measure.per_sample(outputs.float().cpu().numpy(), target.cpu().numpy())
        parts.append((group, statistics, float(loss) * len(group)))
    gathered = [part for rank in ranks.gather(parts) for part in rank]
    order = np.argsort(np.concatenate([np.asarray(part[0]) for part in gathered]))
    statistics = np.concatenate([part[1] for part in gathered])[order]
    loss_sum = sum(part[2] for part in gathered)
    return measure.aggregate(statistics), loss_sum / len(splits.validation)


def _kept(checkpoints: Checkpoints) -> str:
    saved = checkpoints.all()
    if not saved:
        return "No checkpoint was made before it."
    return f"The last good checkpoint is kept: {saved[-1].path} (epoch {saved[-1].epoch + 1})"


class _Log:
    """Rank 0's events, and the history of metrics that a checkpoint keeps.

    After a recovery the history is sent again with its first timestamps, so that a run that was
    continued elsewhere has the whole curve.
    """

    def __init__(self, report: Report, enabled: bool) -> None:
        self._report = report
        self._enabled = enabled
        self._last_live = 0.0
        self._started = time.perf_counter()
        self._first_step: int | None = None
        self.history: list[Event] = []

    def metric(self, name: str, value: float, step: int) -> None:
        if self._enabled:
            event = {"kind": "metric", "name": name, "value": value, "step": step}
            event["time_ms"] = int(time.time() * 1000)
            self.history.append(event)
            self._report(event)

    def restore(self, history: list[Event]) -> None:
        self.history = list(history)
        if self._enabled:
            for event in history:
                self._report(event)

    def note(self, text: str) -> None:
        if self._enabled:
            self._report({"kind": "note", "text": text})

    def live(self, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        now = time.perf_counter()
        if self._first_step is None:
            self._first_step = step - 1
        if not self._enabled or now - self._last_live < _LIVE_SECONDS:
            return
        self._last_live = now
        left = (now - self._started) / (step - self._first_step) * (steps - step)
        text = f"epoch {epoch + 1}/{epochs}, loss {loss:.4f}, {left:.0f} s left"
        self._report({"kind": "progress", "done": step, "total": steps, "text": text})

    def epoch(self, epoch: int, epochs: int, loss: float, metric: str, quality: float) -> None:
        if self._enabled:
            text = f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}, validation {metric} {quality:.4f}"
            self._report({"kind": "epoch", "text": text, "done": epoch + 1, "total": epochs})
