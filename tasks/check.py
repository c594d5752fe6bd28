"""Check: is what the recipe asks for possible? Answered before minutes are spent on it.

Builds model and data once, runs one batch through model and loss, refuses a mesh that the model
does not support, estimates the memory of a worker, makes sure that the test split is separate, and
saves the real inputs that later steps need without the user's code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from ..ray_workers.data.asking import ask, asked_by
from ..ray_workers.data.calling import (
    INPUT,
    Arrays,
    arrays,
    called,
    chosen_output,
    main_first,
    main_output_name,
    outputs_for_loss,
)
from ..ray_workers.data.groups import groupings
from ..ray_workers.data.input_kinds import find_input
from ..ray_workers.data.split_checks import check_finite, check_repeats, look_at_all
from ..ray_workers.data.splits import SampleBatch, Splits, batches, few_samples, split
from ..ray_workers.data.targets import main_target, named_targets
from ..ray_workers.events import Note
from ..ray_workers.metrics.judgement import Judgement
from ..ray_workers.model.axes import Varying
from ..ray_workers.model.module import initial
from ..ray_workers.model.onnx_export import to_onnx
from ..ray_workers.model.onnx_model import OnnxGraph, count_parameters
from ..ray_workers.model.real_inputs import RealInputs, output_shapes, real_inputs
from ..ray_workers.model.tracing import example_of, trace
from ..ray_workers.training.broadcasts import refuse_broadcast
from ..ray_workers.training.dealing import Fewest
from ..ray_workers.training.estimate import estimate
from ..ray_workers.training.losses import Loss, make_counted_loss, make_loss, mean_of_parts
from ..ray_workers.training.parallel.parallelize import check_mesh
from ..ray_workers.training.probe import (
    dtype_advice,
    gradients,
    least_samples,
    refuse_frozen,
    refuse_sparse,
)
from ..ray_workers.workspace import Result, Workspace
from ..recipe.errors import InputError
from ..recipe.factories import origin, users_line
from ..recipe.library_messages import advice, telling
from ..recipe.metrics import METRICS
from ..recipe.training import Train
from .specs.check import CheckFacts, CheckSpec, DataFact, MemoryFact, TensorFact

#: Number of real test inputs for timing and for the registered model's example.
SAMPLES = 64
#: A data factory that takes less is called twice, to see whether it returns the same (s).
REPEATED = 1.0
#: Largest number of calibration inputs.
CALIBRATION = 4096
#: A training that takes longer than this begins with a try of the export (minutes).
_LONG = 1.0
#: A step takes about so many times as long as a forward pass.
_BOTH_WAYS = 3.0


def check(work: Workspace[CheckSpec]) -> Result:
    """Check the model and its data. Outputs: `samples`, `calibration`.

    Raises:
        InputError: The model can't be trained or evaluated, or splits overlap.
    """
    spec = work.spec
    work.allowed.resolve(spec.data.factory, "data.factory")  # imports are no part of its time
    started = time.monotonic()
    asked = asked_by(work, spec.data)
    data = asked.data
    notes = []
    quick = time.monotonic() - started < REPEATED and not asked.taken
    splits = split(data, spec.seed)
    if quick:  # past what other steps share: a copy is always the same
        again = ask(spec.data, work.allowed, work.report).data
        notes += check_repeats(splits, split(again, spec.seed))
    seen, overlaps = look_at_all(splits)
    torch.manual_seed(spec.seed)
    model = initial(spec.model, work.allowed)
    if isinstance(model, OnnxGraph) and spec.trains:
        raise InputError(
            "an ONNX graph can't be trained, and train.epochs is not 0",
            where=origin(spec.model.factory, spec.model.args),
            do="set train.epochs to 0 to use it as it is",
        )
    if data.train is None and spec.trains:
        raise InputError(
            "there is no training split, and train.epochs is not 0",
            where="data.factory: Data.train",
            do="give Data(train=...), or set train.epochs to 0 to use the model as it is",
        )
    loss = make_loss(
        spec.train.loss,
        work.allowed,
        class_weights=spec.train.class_weights,
        target=spec.data.target,
    )
    check_finite(model, splits, seen)
    seconds = _try_one_batch(model, splits, spec, loss, work)
    train = spec.train
    few = few_samples(splits)
    placement = check_mesh(model, train, work.allowed, few.inputs)
    memory = estimate(model, train, work.allowed, few)
    axes = spec.model.dynamic_axes
    samples = real_inputs(splits, splits.test, SAMPLES, spec.batch_sizes, axes)
    calibration = real_inputs(splits, splits.calibration, CALIBRATION, declared=axes)
    _check_alike(samples.stacked, calibration.stacked)
    groupings(splits, spec.groups, work.allowed, spec.data.target, most=SAMPLES)
    if spec.proofs is not None:
        find_input(samples.stacked, spec.proofs)
    for name, values in (("samples", samples), ("calibration", calibration)):
        values.write(work.output(name, "inputs"))
    returned = output_shapes(model.eval(), samples)
    main = main_output_name(list(returned), chosen_output(model))
    returned = {main: returned.pop(main), **returned}
    sizes = {n: len(getattr(splits, n)) for n in ("train", "validation", "calibration", "test")}
    parameters = count_parameters(model)
    notes += [*placement, *(_try_training(model, splits, spec, loss, work) if spec.trains else [])]
    if spec.trains and _minutes(train, seconds, sizes["train"]) > _LONG:
        _try_export(model, samples, work)
    if sizes["test"] == 1:
        notes.append(
            "the test split has one sample: what is measured on it says little of other samples"
        )
    if (several := _told_of_targets(few, spec)) is not None:
        notes.append(several)
    if overlaps:
        notes.append(
            f"{overlaps} of the {sizes['test']} test samples are also in train: the measured "
            "quality may be too high"
        )
    return Result(
        params={"model/parameters": parameters, **{f"data/{n}": s for n, s in sizes.items()}},
        facts=CheckFacts(
            data=DataFact(name=splits.name, sizes=sizes),
            parameters=parameters,
            memory=MemoryFact(**dict(memory)),
            inputs={name: TensorFact(shape=_sizes(name, value.shape, samples.varying),
                                     dtype=str(value.dtype))
                    for name, value in samples.stacked.items()},
            output=TensorFact(shape=tuple(returned[main][1]), dtype="float32"),
            outputs={name: TensorFact(shape=tuple(shape), dtype=kind)
                     for name, (kind, shape) in returned.items()},
            varying=tuple(map(str, samples.varying)),
        ),
        notes=notes,
    )  # fmt: skip


def _told_of_targets(few: SampleBatch, spec: CheckSpec) -> str | None:
    """Which of several targets a metric or loss of Hone's looks at, if the recipe doesn't say."""
    names = [name for name, _ in named_targets(few.target)]
    whole = ":" in spec.metric and ":" in spec.train.loss
    if len(names) < 2 or spec.data.target is not None or whole:
        return None
    return (
        f"the data give several targets ({', '.join(names)}): Hone's own losses and metrics look "
        f"at '{names[0]}' (data.target names another)"
    )


def _try_one_batch(
    model: torch.nn.Module,
    splits: Splits,
    spec: CheckSpec,
    loss: Loss,
    work: Workspace[CheckSpec],
) -> float:
    """The seconds that a sample's forward pass takes in evaluation, about."""
    count = min(256, len(splits.train))
    inputs, target = next(batches(splits, splits.train, [range(count)]))
    model.eval()
    with torch.no_grad():
        started = time.perf_counter()
        try:
            everything = called(model, inputs)
            named = main_first(everything, chosen_output(model))
            outputs = next(iter(named.values()))
            returned = everything if spec.train.loss_gets_all else outputs
        except InputError:
            raise
        except Exception as error:
            given = {name: value.shape for name, value in arrays(inputs).items()}
            shapes = ", ".join(f"{name} {shape}" for name, shape in given.items())
            if list(given) == [INPUT]:
                shapes = str(given[INPUT])
            raise InputError(
                f"the model can't take a batch of the data (inputs {shapes}): "
                f"{type(error).__name__}: {telling(error)}{_at(error)}",
                where=origin(spec.model.factory, spec.model.args),
                do=dtype_advice(model, inputs)
                or (known.do if (known := advice(error)) else None)
                or "make the model's forward fit the inputs that the data factory gives",
            ) from error
    seconds = (time.perf_counter() - started) / count
    if outputs.shape[:1] != (count,):
        raise InputError(
            f"the model's output has shape {tuple(outputs.shape)} for a batch of {count}: the "
            "first axis must be the batch",
            where=origin(spec.model.factory, spec.model.args),
            do="return one output for each sample, in the first axis",
        )
    if spec.train.mesh.pipeline > 1 and not isinstance(target, torch.Tensor):
        raise InputError(
            "the data give several targets, and a pipeline's last stage gets one tensor",
            where="train.mesh.pipeline",
            do="set pipeline to 1, or give one target",
        )
    if ":" in spec.train.loss:
        refuse_broadcast(loss, spec.train.loss, returned, target)
    with torch.no_grad():
        value = float(loss(returned, target))
    if not math.isfinite(value):
        raise InputError(
            f"the loss of the untrained model is {value}",
            where="train.loss",
            do="look for NaN or infinite values in the data, or for a wrong initialization",
        )
    if (
        spec.train.loss == "cross_entropy"
        and outputs.shape == (main := main_target(target, spec.data.target)).shape
        and spec.metric in METRICS
        and METRICS[spec.metric].of_labels
    ):
        raise InputError(
            f"the targets are probabilities of classes {tuple(main.shape)}, which the metric "
            f"'{spec.metric}' would take for labels of their own",
            where="quality.metric",
            do="give class numbers as targets, or name a metric of your own",
        )
    measure = Judgement(spec, work.allowed)
    measure.aggregate(measure.per_sample(named, target))
    return seconds


def _minutes(train: Train, seconds: float, samples: int) -> float:
    """About how long the training takes on these processors, from the time of a forward pass."""
    workers = train.mesh.data_range[1] * train.mesh.shard
    return _BOTH_WAYS * seconds * samples * train.epochs / workers / 60


def _try_export(model: torch.nn.Module, samples: RealInputs, work: Workspace[CheckSpec]) -> None:
    """Export the untrained model, so that what can't be exported is known before it is trained.

    Raises:
        StepFailed: With the operator or line.
    """
    work.report(Note("trying the export, because the training will take long"))
    example = example_of([*samples.batches, samples.stacked])
    to_onnx(model.eval(), trace(model, example, samples.varying))


def _try_training(
    model: torch.nn.Module,
    splits: Splits,
    spec: CheckSpec,
    loss: Loss,
    work: Workspace[CheckSpec],
) -> list[str]:
    """A backward pass over a few samples, and what it tells."""
    train = spec.train
    refuse_frozen(model)
    few = few_samples(splits)
    least = least_samples(model, few.inputs)
    parts = train.parallel.pipeline.microbatches if train.mesh.pipeline > 1 else 1
    readers = train.mesh.data_range[1] * train.mesh.shard
    each = train.batch_size // readers // parts
    if each < Fewest.of(least, readers, train.sync_batch_norm).each:
        raise InputError(
            f"batch norm can't be trained on one sample at a time, and a worker gets {each} of a "
            f"batch of {train.batch_size}",
            where="train.batch_size",
            do="raise train.batch_size, or use fewer workers or micro-batches",
        )
    if few.count < least:
        return []
    notes = _told_of_mean(model, splits, spec, work)
    every = train.loss_gets_all
    found = gradients(model, few.inputs, lambda outputs: loss(outputs, few.target), every)
    refuse_sparse(found)
    names = [name for name, gradient in found.items() if gradient is None]
    if not names:
        return notes
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [*notes, f"no gradient reaches {listed}: what nothing uses is not trained"]


def _told_of_mean(
    model: torch.nn.Module, splits: Splits, spec: CheckSpec, work: Workspace[CheckSpec]
) -> list[str]:
    """Tell if a batch in parts has another loss than the whole, as a weighted mean has."""
    train = spec.train
    count = min(64, len(splits.train))
    in_parts = train.accumulate * train.mesh.data_range[1] * train.mesh.shard > 1
    if ":" not in spec.train.loss or not in_parts or count < 4:
        return []
    loss = make_counted_loss(spec.train.loss, work.allowed, target=spec.data.target)
    model.eval()

    def mean(*parts: Sequence[int]) -> float:
        read = batches(splits, splits.train, parts)
        return mean_of_parts(
            loss, ((outputs_for_loss(model, x, train.loss_gets_all), y) for x, y in read)
        )

    with torch.no_grad():
        whole = mean(range(count))
        apart = mean(range(count // 4), range(count // 4, count))
    if abs(whole - apart) <= 1e-4 * max(abs(whole), 1e-3):
        return []
    return [
        f"the loss of a batch ({whole:.4g}) is not the mean over its parts ({apart:.4g}), so it "
        "differs with accumulation and the number of workers; if it leaves out or weighs targets, "
        "return a pair: the sum over what counts, and how much counts"
    ]


def _at(error: BaseException) -> str:
    place = users_line(error)
    return f" ({place})" if place else ""


def _check_alike(samples: Arrays, calibration: Arrays) -> None:
    for name, values in samples.items():
        other = calibration.get(name)
        if other is None or other.dtype != values.dtype or other.ndim != values.ndim:
            found = "nothing" if other is None else f"{other.dtype}, shape {other.shape[1:]}"
            raise InputError(
                f"calibration has {found} for the input '{name}', test has {values.dtype}, shape "
                f"{values.shape[1:]}",
                where="data.factory: Data.calibration",
            )


def _sizes(name: str, shape: tuple[int, ...], varying: tuple[Varying, ...]) -> tuple[int, ...]:
    free = {axis.axis for axis in varying if axis.input == name}
    return tuple(-1 if i in free else size for i, size in enumerate(shape) if i)
