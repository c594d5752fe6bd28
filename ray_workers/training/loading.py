"""This worker's micro-batches, read and batched beside the training step.

Reading is seeded for each micro-batch, by its place in the training. So which process reads it, and
whether training was resumed before it, changes no bit.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...recipe.errors import HoneError, InputError
from ...recipe.factories import unexpected
from ...recipe.training import Train
from ..data.calling import move
from ..data.fetching import Fetcher, Wanted
from ..data.seed import mixed_seed
from ..data.split_format import Feed
from ..data.splits import Splits, split_name
from ..scratch import process_folder, use_for_temporary_files
from ..worker_death import reader_died
from .dealing import Fewest, Share, deal, shuffled
from .parallel.axes import Axes
from .ray_batches import streamed_steps
from .step import MicroBatch

#: A sample that takes longer is read in processes of its own (s).
_SLOW_SAMPLE = 0.001
_TRIED_SAMPLES = 8
#: What tells the seeds of reading from those of the step.
_READING = 0x10AD


class Loader:
    """Loads the micro-batches of one split; its processes, if it has any, stay until it is closed.

    Args:
        splits: Of the data.
        dataset: The split.
        spec: The recipe's `train`.
        axes: This worker's place.
    """

    def __init__(self, splits: Splits, dataset: Any, spec: Train, axes: Axes) -> None:
        self._axes = axes
        self._seed = spec.seed
        self._fetcher = Fetcher(dataset, splits.collate, split_name(splits, dataset))
        self._plan = _Plan()
        said = spec.loading.workers
        self.workers = said if said is not None else _fitting(dataset, spec)
        if multiprocessing.current_process().daemon:  # it may have no processes of its own
            self.workers = 0
        self._pinned = axes.device.type == "cuda" and spec.loading.pin_memory
        self._loader: Any = None
        if self.workers:
            self._loader = DataLoader(
                _Answers(self._fetcher),
                batch_size=None,
                sampler=self._plan,
                num_workers=self.workers,
                prefetch_factor=spec.loading.prefetch,
                persistent_workers=True,
                pin_memory=self._pinned,
                worker_init_fn=functools.partial(_quiet_worker, process_folder()),
                multiprocessing_context="fork",
            )

    def steps(
        self, dealt: Sequence[Sequence[Share]], epoch: int, first: int
    ) -> Iterator[list[MicroBatch]]:
        """The micro-batches of each step on this worker's device.

        Args:
            dealt: Of the steps to load.
            epoch: From 0; -1: not of training.
            first: The first of these steps in its epoch.
        """
        loaded = self._loaded(
            Wanted(share.indices, self._seed_of(epoch, first + step, part))
            for step, shares in enumerate(dealt)
            for part, share in enumerate(shares)
        )
        for shares in dealt:
            step_batches = []
            for share in shares:
                inputs, target = next(loaded)
                device = self._axes.device
                inputs = move(inputs, device, self._pinned)
                target = move(target, device, self._pinned)
                step_batches.append(MicroBatch(inputs, target, share.own, share.weight))
            yield step_batches

    def _seed_of(self, epoch: int, step: int, part: int) -> int:
        return mixed_seed(self._seed, epoch + 1, step, self._axes.reader, part, _READING)

    def _loaded(self, plan: Iterator[Wanted]) -> Iterator[tuple[Any, Any]]:
        if self._loader is None:
            yield from map(self._fetcher.batch, plan)
            return
        self._plan.wanted = plan
        answers = iter(self._loader)
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise reader_died() from error
            if isinstance(answer, dict):
                raise HoneError.from_dict(answer["error"])
            yield answer

    def close(self) -> None:
        """End its processes."""
        self._loader = None


class TrainBatches:
    """This worker's micro-batches of the train split.

    Args:
        splits: Of the data.
        spec: The recipe's `train`.
        axes: This worker's place.
        feed: Access to the split if it streams.
        fewest: Fewest samples of a micro-batch and a step.
    """

    def __init__(
        self, splits: Splits, spec: Train, axes: Axes, feed: Feed | None, fewest: Fewest
    ) -> None:
        self._spec = spec
        self._axes = axes
        self._fewest = fewest
        self._feed = feed
        self._count = len(splits.train)
        self._loader = Loader(splits, splits.train, spec, axes) if feed is None else None

    def steps(self, epoch: int, skip: int) -> Iterator[list[MicroBatch]]:
        """The micro-batches of each step of an epoch, from a step on."""
        spec, axes = self._spec, self._axes
        pipelined = axes["pipeline"] > 1
        parts = spec.parallel.pipeline.microbatches if pipelined else spec.accumulate
        if self._feed is not None:
            yield from streamed_steps(
                self._feed, axes, spec.batch_size, parts, pipelined, epoch, skip, self._fewest
            )
        if self._loader is not None:
            order = shuffled(self._count, spec.seed, epoch)
            dealt = deal(
                order, spec.batch_size, axes.readers, axes.reader, parts, pipelined, self._fewest
            )
            yield from self._loader.steps(dealt[skip:], epoch, skip)

    def close(self) -> None:
        """End the processes that read."""
        if self._loader is not None:
            self._loader.close()


def same_everywhere(splits: Splits, axes: Axes) -> None:
    """Refuse data of which workers have different numbers of samples: they would wait for ever."""
    for name in ("train", "validation"):
        counts = axes.gather(len(getattr(splits, name)))
        if len(set(counts)) > 1:
            raise InputError(
                f"the data factory gave workers different numbers of {name} samples: "
                f"{', '.join(map(str, counts))}",
                where="data.factory",
                do="let it return the same data at each call, by a seed of its own",
            )


class _Plan(Sampler[Wanted]):
    """Which batches are read, in order; another list each epoch."""

    def __init__(self) -> None:
        self.wanted: Iterator[Wanted] = iter(())

    def __iter__(self) -> Iterator[Wanted]:
        return self.wanted


class _Answers(Dataset[Any]):
    """A batch for each `Wanted`, or its error as plain data: torch would lose the user's line."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def __getitem__(self, wanted: Wanted) -> Any:
        try:
            return self._fetcher.batch(wanted)
        except Exception as error:
            told = error if isinstance(error, HoneError) else unexpected(error)
            return {"error": told.to_dict()}


def _fitting(dataset: Any, spec: Train) -> int:
    """Processes for a split: none if samples are read fast, else two or one a core."""
    count = min(_TRIED_SAMPLES, len(dataset))
    state = torch.get_rng_state()
    started = time.perf_counter()
    for index in range(count):
        try:
            dataset[index]
        except Exception:  # it is told where the sample is read
            return 0
    torch.set_rng_state(state)
    each = (time.perf_counter() - started) / max(1, count)
    return max(2, int(spec.resources.cpus)) if each > _SLOW_SAMPLE else 0


def _quiet_worker(folder: Path, _number: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"
    use_for_temporary_files(folder)  # of the sockets that samples are sent through
