"""The training loop, readable top to bottom. It runs in every worker of the process group.

It knows neither Ray nor MLflow, and runs the same under torchrun. `parallel/parallelize.py` applies
the parallelism, `dealing.py` decides which worker reads which samples, and `step.py` computes a
step.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import Any

import torch
from torch import nn

from ...recipe.errors import InputError, Preempted
from ...recipe.strict import short_name
from ..data.calling import move
from ..data.seed import mixed_seed, seed_torch
from ..data.split_format import Feed
from ..data.splits import SampleBatch, Splits, few_samples, split
from ..events import Report
from ..model.module import initial, load_module
from .buffers import SharedBuffers
from .checkpoints import Checkpoints
from .dealing import Fewest, count_steps
from .ema import Ema
from .gradients import clip, reduce_partial_gradients
from .job import TrainJob
from .loading import Loader, TrainBatches, same_everywhere
from .log import Log
from .losses import make_loss
from .measure import CommunicationShare, flops_per_sample, peak_flops
from .objectives import Objective, Taught, make_objective, prepare_lesson
from .optim import make_optimizers, rate_factor, set_rate
from .parallel.axes import Axes
from .parallel.parallelize import parallelize, replicates
from .probe import least_samples, refuse_frozen, without_gradient
from .state import TrainState
from .step import make_step_runner
from .system import SystemMonitor
from .validation import validate
from .watch import LossWatch, Passed, agree, divide
from .zeros import keep_zeros, zero_masks

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    data: Any = None,
) -> None:
    """Train, from the last checkpoint if there is one. The result is in the checkpoints.

    Args:
        job: What to train.
        report: Receives events; only rank 0's are used.
        stop: Checked whenever the loss is; a request to any worker stops all, after a checkpoint.
        objective: Instead of the recipe's.
        feed: Access to the train split if it streams.
        data: What the data factory returned; None: it is called.

    Raises:
        InputError: The factories fail, or what they return can't be trained.
        StepFailed: The loss became NaN or infinite, or spiked; the last checkpoint stays.
        Preempted: A worker was asked to stop; the state is saved.
    """
    spec, axes = job.train, Axes.of_this_worker(job.train.mesh)
    stop = stop or StopRequested()
    _prepare(job, axes)
    splits = _splits(job, feed, data)
    same_everywhere(splits, axes)
    samples = few_samples(splits)
    model, least, notes = _make_model(job, splits, samples.inputs)
    flops = flops_per_sample(model, samples) if axes.rank == 0 else 0.0
    lesson = prepare_lesson(job, model, samples.inputs)
    refuse_frozen(model)
    fewest = Fewest.of(least, axes.readers, spec.sync_batch_norm)
    unused = _may_lack_gradients(model, samples, job, axes, lesson)
    placed = parallelize(model, spec, axes, job.allowed, samples.inputs, unused)
    del model
    objective = objective or make_objective(job, lesson, placed, axes)
    zeros = zero_masks(placed.parameters()) if job.keep_zeros else {}
    optimizers = make_optimizers(spec.optimizer, placed.parts, job.allowed)
    ema = Ema(placed.parts, spec.ema, placed.aliases) if spec.ema is not None else None
    scaler = torch.amp.GradScaler(axes.device.type, enabled=spec.precision == "fp16")
    state = TrainState(placed, optimizers, ema, scaler)
    every_output = job.metric_outputs == "all"
    runner = make_step_runner(placed, objective, spec, axes, scaler, samples.targets, every_output)
    late = int(axes.device.type == "cuda")  # steps whose numbers may be unread

    steps_per_epoch = count_steps(len(splits.train), spec.batch_size, fewest.step)
    steps = spec.epochs * steps_per_epoch
    kept = spec.checkpoint
    checkpoints = Checkpoints(
        job.checkpoints, job.higher_is_better, kept.keep, kept.asynchronous, job.checkpoint_key
    )
    checkpoints.open()
    log = Log(report, axes.rank == 0, checkpoints, spec.epochs, steps)
    for note in (*notes, *placed.notes):
        log.note(note)
    step = _resume(state, checkpoints, log, steps_per_epoch, len(splits.train))

    def save(quality: float | None) -> None:
        log.saved(step)
        rest = {**state.values(), "mesh": axes.sizes, "samples": len(splits.train)}
        checkpoints.save(state.tensors(), step, step // steps_per_epoch, quality, rest)

    communication = CommunicationShare(step + 3, 2, enabled=axes.world > 1)
    monitor = SystemMonitor(axes)
    reached = torch.tensor(peak_flops(axes.device, _DTYPES[spec.precision]), device=axes.device)
    peak = float(axes.everywhere(reached))
    buffers = SharedBuffers(placed, axes)
    batches = TrainBatches(splits, spec, axes, feed, fewest)
    judging = Loader(splits, splits.validation, spec, axes)
    watch = LossWatch(spec.stop_on_spike, checkpoints)
    waiting: deque[Passed] = deque()

    def settle(most: int = 0) -> tuple[float, bool]:
        """Read the numbers of steps until at most so many wait; the last loss, and a stop."""
        loss, stops = float("nan"), False
        while len(waiting) > most:
            passed = waiting.popleft()
            loss, stops = float(passed.agreed.loss), float(passed.agreed.stops) > 0
            watch.look(loss, passed.step, passed.epoch)
            log.metric("train/loss", loss, passed.step)
            log.metric("train/learning_rate", passed.rate, passed.step)
            log.metric("train/gradient_norm", float(passed.norm), passed.step)
            log.live(passed.epoch, passed.step + 1, loss, spec.batch_size, monitor.memory)
        return loss, stops

    try:
        for epoch in range(step // steps_per_epoch, spec.epochs):
            placed.train(True)
            epoch_started, first = time.perf_counter(), step
            for share in batches.steps(epoch, step % steps_per_epoch):
                if (sending := communication.at(step)) is not None:
                    log.metric("train/communication_share", sending, step)
                seed_torch(mixed_seed(spec.seed, step, axes.reader), axes.device)
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss = runner.train(share)
                reduce_partial_gradients(placed.parts)
                for optimizer in optimizers:
                    scaler.unscale_(optimizer)
                agreed = agree(loss, runner.counted, stop.now, axes)
                divide(placed, agreed)
                norm = clip(placed.parts, axes, spec.clip_grad_norm)
                rate = set_rate(optimizers, rate_factor(spec.schedule, step, steps))
                for optimizer in optimizers:
                    scaler.step(optimizer)
                scaler.update()
                keep_zeros(zeros, placed.parameters())
                buffers.average(sum(batch.own for batch in share))
                if ema is not None:
                    ema.update(step)
                waiting.append(Passed(step, epoch, agreed, norm, rate))
                step += 1
                mean_loss, wants_stop = settle(late)
                if wants_stop:
                    settle()
                    save(None)
                    checkpoints.wait()
                    raise Preempted(
                        f"training was asked to stop at step {step}; its state is saved"
                    )
                every = spec.checkpoint.every_steps
                if every is not None and step % every == 0 and step % steps_per_epoch:
                    settle()
                    save(None)
            mean_loss = settle()[0] if waiting else mean_loss
            buffers.find_changing()
            seconds = time.perf_counter() - epoch_started
            speed = (step - first) * spec.batch_size / seconds
            log.metric("train/samples_per_s", speed, step - 1)
            if flops:
                log.metric("train/flops_per_s", flops * speed, step - 1)
                log.metric("train/flops_utilization", flops * speed / peak, step - 1)
            quality, validation_loss = validate(job, splits, judging, placed, runner, ema, axes)
            log.metric("validation/loss", validation_loss, step - 1)
            log.metric(f"validation/{short_name(job.metric)}", quality, step - 1)
            log.metrics(monitor.sample(), step - 1)
            save(quality)
            log.epoch(epoch, mean_loss, short_name(job.metric), quality)
    finally:
        communication.close()
        batches.close()
        judging.close()
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


def _make_model(job: TrainJob, splits: Splits, sample: Any) -> tuple[nn.Module, int, list[str]]:
    """The model to train, the fewest samples of a micro-batch, and notes for the run."""
    if job.start is None:
        model = initial(job.model, job.allowed)
    else:
        model = load_module(job.model, job.allowed, job.fetched(job.start)).train()
    least = least_samples(model, sample)
    if not job.qat:
        return model, least, []
    from ..model.real_inputs import real_inputs
    from .qat import with_fake_quantization

    inputs = real_inputs(splits, splits.head, 3, declared=job.model.dynamic_axes)
    graph, notes = with_fake_quantization(model, inputs)
    return graph, least, notes


def _may_lack_gradients(
    model: nn.Module, samples: SampleBatch, job: TrainJob, axes: Axes, lesson: Taught | None
) -> bool:
    """Whether DDP has to look for parameters without gradient."""
    spec = job.train
    said = spec.parallel.data.find_unused
    if said is not None or not replicates(axes):
        return bool(said)
    if lesson is not None and lesson.features is not None:
        return False  # the objective uses inner layers, which DDP can't see
    model.to(axes.device)
    inputs, target = move(samples.inputs, axes.device), move(samples.target, axes.device)
    every = spec.loss_gets_all
    loss = make_loss(spec.loss, job.allowed, target=job.data.target) if every else None

    def value(outputs: Any) -> torch.Tensor:
        found: torch.Tensor = outputs.float().sum() if loss is None else loss(outputs, target)
        return found

    return bool(without_gradient(model, inputs, value, every))


def _resume(
    state: TrainState, checkpoints: Checkpoints, log: Log, steps_per_epoch: int, samples: int
) -> int:
    """Load the last complete checkpoint, whichever mesh wrote it; returns the next step."""
    found = checkpoints.latest()
    if found is None:
        return 0
    before = found.rest.get("samples", samples)
    if before != samples:
        raise InputError(
            f"train had {before} samples when training was interrupted, and has {samples} now",
            where="data.factory",
            do="let the factory return the same data at each call, or change data.version to train "
            "anew",
        )
    state.load(checkpoints, found)
    log.restore(found.step)
    epoch, rest = divmod(found.step, steps_per_epoch)
    where = f"epoch {epoch}" if not rest else f"step {rest} of epoch {epoch + 1}"
    log.note(f"resuming after {where} of {log.epochs}, from the last checkpoint")
    return found.step


def _splits(job: TrainJob, feed: Feed | None, data: Any) -> Splits:
    if feed is not None:
        return feed.splits
    if data is None:
        data = job.allowed.call(job.data.factory, job.data.args, "data.factory")
    splits = split(data, job.train.seed)
    if splits.streams:
        raise InputError(
            "train is a stream, which Ray workers are fed with, and these were started without Ray",
            where="data.factory",
            do="train with `hone run`, or give a torch dataset",
        )
    return splits
