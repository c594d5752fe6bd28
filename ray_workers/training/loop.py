"""The training loop, readable top to bottom. It runs in every worker of the process group.

It knows neither Ray nor MLflow, and runs the same under torchrun. `parallel/parallelize.py` applies
the parallelism, `dealing.py` decides which worker reads which samples, and `step.py` computes a
step.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...recipe.errors import InputError, Preempted, StepFailed
from ...recipe.strict import short_name
from ..data.calling import move
from ..data.seed import mixed_seed
from ..data.split_format import Feed
from ..data.splits import Splits, batches, few_samples, split
from ..events import Report
from ..metrics import metric as load_metric
from ..model.module import initial, load_module
from .checkpoints import Checkpoints
from .dealing import Share, deal, shuffled
from .ema import Ema
from .gradients import clip, reduce_partial_gradients
from .job import TrainJob
from .log import Log
from .measure import CommunicationShare, flops_per_sample, peak_flops
from .objectives import Objective, make_objective, prepare_lesson
from .optim import make_optimizers, rate_factor, set_rate
from .parallel.axes import Axes
from .parallel.parallelize import Placed, parallelize
from .ray_batches import streamed_steps
from .state import TrainState
from .step import MicroBatch, StepRunner, make_step_runner
from .system import SystemMonitor
from .zeros import keep_zeros, zero_masks

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SPIKE_WINDOW = 50


class StopRequested:
    """Whether this worker was asked to stop, as by a preemption's SIGTERM."""

    def __init__(self) -> None:
        self.now = False

    def listen(self) -> None:
        """Treat SIGTERM as a request to stop; only in a process's main thread."""
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, _number: int, _frame: Any) -> None:
        self.now = True


def train_loop(
    job: TrainJob,
    report: Report,
    stop: StopRequested | None = None,
    objective: Objective | None = None,
    feed: Feed | None = None,
) -> None:
    """Train, from the last checkpoint if there is one. The result is in the checkpoints.

    Args:
        job: What to train.
        report: Receives events; only rank 0's are used.
        stop: Checked whenever the loss is; a request to any worker stops all, after a checkpoint.
        objective: Instead of the recipe's.
        feed: Access to the train split if it streams.

    Raises:
        InputError: The factories fail, or what they return can't be trained.
        StepFailed: The loss became NaN or infinite, or spiked; the last checkpoint stays.
        Preempted: A worker was asked to stop; the state is saved.
    """
    spec, axes = job.train, Axes.of_this_worker(job.train.mesh)
    stop = stop or StopRequested()
    _prepare(job, axes)
    splits = _splits(job, feed)
    samples = few_samples(splits)
    model = _make_model(job, samples.inputs)
    flops = flops_per_sample(model, samples) if axes.rank == 0 else 0.0
    lesson = prepare_lesson(job, model, samples.inputs)
    placed = parallelize(model, spec, axes, job.allowed, samples.inputs)
    del model
    objective = objective or make_objective(job, lesson, placed, axes)
    zeros = zero_masks(placed.parameters()) if job.keep_zeros else {}
    optimizers = make_optimizers(spec.optimizer, placed.parts, job.allowed)
    ema = Ema(placed.parts, spec.ema) if spec.ema is not None else None
    scaler = torch.amp.GradScaler(axes.device.type, enabled=spec.precision == "fp16")
    state = TrainState(placed, optimizers, ema, scaler)
    runner = make_step_runner(placed, objective, spec, axes, scaler)

    steps_per_epoch = math.ceil(len(splits.train) / spec.batch_size)
    steps = spec.epochs * steps_per_epoch
    kept = spec.checkpoint
    checkpoints = Checkpoints(
        job.checkpoints, job.higher_is_better, kept.keep, kept.asynchronous, job.checkpoint_key
    )
    checkpoints.open()
    log = Log(report, axes.rank == 0, checkpoints, spec.epochs, steps)
    for note in placed.notes:
        log.note(note)
    step = _resume(state, checkpoints, log, steps_per_epoch)

    def save(quality: float | None) -> None:
        log.saved(step)
        rest = {**state.values(), "mesh": axes.sizes}
        checkpoints.save(state.tensors(), step, step // steps_per_epoch, quality, rest)

    communication = CommunicationShare(step + 3, 2, enabled=axes.world > 1)
    monitor = SystemMonitor(axes)
    reached = torch.tensor(peak_flops(axes.device, _DTYPES[spec.precision]), device=axes.device)
    peak = float(axes.everywhere(reached))
    recent: deque[float] = deque(maxlen=_SPIKE_WINDOW)
    try:
        for epoch in range(step // steps_per_epoch, spec.epochs):
            placed.train(True)
            epoch_started, first = time.perf_counter(), step
            for share in _dealt(splits, job, axes, feed, epoch, step % steps_per_epoch):
                if (sending := communication.at(step)) is not None:
                    log.metric("train/communication_share", sending, step)
                torch.manual_seed(mixed_seed(spec.seed, step, axes.reader))
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss = runner.train(share)
                reduce_partial_gradients(placed.parts)
                for optimizer in optimizers:
                    scaler.unscale_(optimizer)
                norm = clip(placed.parts, axes, spec.clip_grad_norm)
                mean_loss, wants_stop = _mean_loss_and_stop(loss, stop, axes)
                _check(mean_loss, recent, spec.stop_on_spike, step, epoch, checkpoints)
                rate = set_rate(optimizers, rate_factor(spec.schedule, step, steps))
                for optimizer in optimizers:
                    scaler.step(optimizer)
                scaler.update()
                keep_zeros(zeros, placed.parameters())
                if ema is not None:
                    ema.update(step)
                log.metric("train/loss", mean_loss, step)
                log.metric("train/learning_rate", rate, step)
                log.metric("train/gradient_norm", float(norm), step)
                step += 1
                log.live(epoch, step, mean_loss, spec.batch_size, monitor.memory())
                if wants_stop:
                    save(None)
                    checkpoints.wait()
                    raise Preempted(
                        f"training was asked to stop at step {step}; its state is saved"
                    )
                every = spec.checkpoint.every_steps
                if every is not None and step % every == 0 and step % steps_per_epoch:
                    save(None)
            seconds = time.perf_counter() - epoch_started
            speed = (step - first) * spec.batch_size / seconds
            log.metric("train/samples_per_s", speed, step - 1)
            if flops:
                log.metric("train/flops_per_s", flops * speed, step - 1)
                log.metric("train/flops_utilization", flops * speed / peak, step - 1)
            quality, validation_loss = _validate(job, splits, placed, runner, ema, axes)
            log.metric("validation/loss", validation_loss, step - 1)
            log.metric(f"validation/{short_name(job.metric)}", quality, step - 1)
            log.metrics(monitor.sample(), step - 1)
            save(quality)
            log.epoch(epoch, mean_loss, short_name(job.metric), quality)
    finally:
        communication.close()
        checkpoints.close()
    axes.barrier()


def _prepare(job: TrainJob, axes: Axes) -> None:
    spec = job.train
    if spec.precision == "fp16" and axes.device.type != "cuda":
        raise InputError("fp16 training needs a GPU, and this worker has none", where="train")
    if spec.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    torch.manual_seed(spec.seed)


def _make_model(job: TrainJob, sample: Any) -> nn.Module:
    if job.start is None:
        model = initial(job.model, job.allowed)
    else:
        model = load_module(job.model, job.allowed, job.fetched(job.start)).train()
    if job.qat:
        from .qat import with_fake_quantization

        model = with_fake_quantization(model, sample)
    return model


def _resume(state: TrainState, checkpoints: Checkpoints, log: Log, steps_per_epoch: int) -> int:
    """Load the last complete checkpoint, whichever mesh wrote it; returns the next step."""
    found = checkpoints.latest()
    if found is None:
        return 0
    state.load(checkpoints, found)
    log.restore(found.step)
    epoch, rest = divmod(found.step, steps_per_epoch)
    where = f"epoch {epoch}" if not rest else f"step {rest} of epoch {epoch + 1}"
    log.note(f"resuming after {where} of {log.epochs}, from the last checkpoint")
    return found.step


def _splits(job: TrainJob, feed: Feed | None) -> Splits:
    if feed is not None:
        return feed.splits
    data = job.allowed.call(job.data.factory, job.data.args, "data.factory")
    splits = split(data, job.train.seed)
    if splits.streams:
        raise InputError(
            "train is a stream, which Ray workers are fed with, and these were started without Ray",
            where="data.factory",
            do="train with `hone run`, or give a torch dataset",
        )
    return splits


def _dealt(
    splits: Splits, job: TrainJob, axes: Axes, feed: Feed | None, epoch: int, skip: int
) -> Iterator[list[MicroBatch]]:
    """This worker's micro-batches of each step of an epoch, from a step on."""
    spec = job.train
    pipelined = axes["pipeline"] > 1
    parts = spec.parallel.pipeline.microbatches if pipelined else spec.accumulate
    if feed is not None:
        yield from streamed_steps(feed, axes, spec.batch_size, parts, pipelined, epoch, skip)
        return
    order = shuffled(len(splits.train), spec.seed, epoch)
    dealt = deal(order, spec.batch_size, axes.readers, axes.reader, parts, same_size=pipelined)
    yield from _loaded(splits, splits.train, dealt[skip:], axes)


def _loaded(
    splits: Splits, dataset: Any, dealt: Sequence[Sequence[Share]], axes: Axes
) -> Iterator[list[MicroBatch]]:
    loaded = batches(splits, dataset, [share.indices for shares in dealt for share in shares])
    for shares in dealt:
        step = []
        for share in shares:
            inputs, target = next(loaded)
            inputs, target = move(inputs, axes.device), target.to(axes.device)
            step.append(MicroBatch(inputs, target, share.own, share.weight))
        yield step


def _mean_loss_and_stop(loss: torch.Tensor, stop: StopRequested, axes: Axes) -> tuple[float, bool]:
    """The batch's mean loss, and whether any worker was asked to stop: one small reduction."""
    mine = loss.float() if axes.is_last_stage and axes.at["tensor"] == 0 else loss.float() * 0
    asked = torch.full_like(mine, float(stop.now))
    both = axes.everywhere(torch.stack([mine, asked]))
    return float(both[0]) / (axes.readers * axes["context"]), float(both[1]) > 0


def _check(
    loss: float,
    recent: deque[float],
    spike: float | None,
    step: int,
    epoch: int,
    checkpoints: Checkpoints,
) -> None:
    """Stop at a loss that is not finite, or far above the recent ones."""
    problem = None
    if not math.isfinite(loss):
        problem = f"the loss became {loss} at step {step} (epoch {epoch + 1})"
    elif spike is not None and len(recent) == recent.maxlen:
        usual = statistics.median(recent)
        if loss > spike * usual > 0:
            problem = (
                f"the loss leapt to {loss:.4g} at step {step} (epoch {epoch + 1}), more than "
                f"{spike:g} times the median of the last {len(recent)} steps ({usual:.4g})"
            )
    recent.append(loss)
    if problem is not None:
        checkpoints.wait()
        raise StepFailed(
            problem,
            where="train",
            do="lower optimizer.lr, add schedule.warmup or clip_grad_norm. " + _kept(checkpoints),
        )


def _validate(
    job: TrainJob,
    splits: Splits,
    placed: Placed,
    runner: StepRunner,
    ema: Ema | None,
    axes: Axes,
) -> tuple[float, float]:
    """The metric and the mean loss on the validation split, each sample counted once."""
    measure, spec = load_metric(job.metric, job.allowed), job.train
    pipelined = axes["pipeline"] > 1
    parts = spec.parallel.pipeline.microbatches if pipelined else 1
    count = len(splits.validation)
    dealt = deal(
        range(count), spec.batch_size, axes.readers, axes.reader, parts, same_size=pipelined
    )
    found: list[tuple[list[int], Any]] = []
    loss_sum = 0.0
    placed.train(False)
    with ema.in_place() if ema is not None else contextlib.nullcontext():
        loaded = _loaded(splits, splits.validation, dealt, axes)
        for shares, step in zip(dealt, loaded, strict=True):
            outputs, loss = runner.evaluate(step)
            if outputs is None or not axes.owns_outputs or not len(outputs):
                continue
            target = torch.cat([batch.target[: batch.own] for batch in step])
            rows = measure.per_sample(outputs.float().cpu().numpy(), target.cpu().numpy())
            found.append(([i for s in shares for i in s.indices[: s.own]], rows))
            loss_sum += loss
    gathered = axes.gather((found, loss_sum))
    parts_found = [part for worker, _ in gathered for part in worker]
    order = np.argsort(np.concatenate([np.asarray(indices) for indices, _ in parts_found]))
    rows = np.concatenate([rows for _, rows in parts_found])[order]
    return measure.aggregate(rows), sum(loss for _, loss in gathered) / count


def _kept(checkpoints: Checkpoints) -> str:
    saved = checkpoints.all()
    if not saved:
        return "No checkpoint was made before it."
    return f"The last good checkpoint is kept: {saved[-1].path} (epoch {saved[-1].epoch})"
