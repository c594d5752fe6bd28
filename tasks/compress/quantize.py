"""Quantize: the graph in fewer bits, in a form that every runtime reads."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from typing import Any

import numpy as np

from ...ray_workers.data.calling import arrays
from ...ray_workers.data.splits import batch_indices, batches, split
from ...ray_workers.metrics import metric as load_metric
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.onnx_files import (
    layer_of,
    load_inputs,
    read_graph,
    restore_layers,
    write_graph,
)
from ...ray_workers.processor import processor
from ...ray_workers.store.file_names import GRAPH
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import HoneError, StepFailed
from ...recipe.library_messages import telling
from ...recipe.passes import (
    DynamicInt8,
    Fp8,
    HalfFloat,
    StaticInt8,
    WeightOnly,
    for_processor,
)
from ..specs.compress import GraphPassSpec, QuantizeFacts
from .schemes.accuracy import control, draw
from .schemes.fp8 import fp8
from .schemes.job import QuantizeJob, heavy_nodes, left_in_float
from .schemes.others import dynamic_int8, half_float, weight_only
from .schemes.runners import runner_of
from .schemes.static_int8 import static_int8


def apply(work: Workspace[GraphPassSpec]) -> Result:
    """Quantize a graph.

    Inputs: `graph`, `calibration`. Output: `graph`, quantized; with accuracy control also
    `sensitivity`.

    Raises:
        StepFailed: No layer can be quantized (with their names), a layer to skip does not exist,
            or the calibration inputs don't fit the graph.
    """
    spec = for_processor(work.spec.compression, processor().saturates_int8)
    source = read_graph(work.inputs["graph"])
    if not heavy_nodes(source):
        found = ", ".join(sorted({node.op_type for node in source.graph.node}))
        raise StepFailed(
            f"there is nothing to quantize: no convolution or matrix product among {found}",
            where="quantize",
        )
    samples = 1 if isinstance(spec, DynamicInt8 | HalfFloat) else spec.samples
    job = QuantizeJob(
        source=work.inputs["graph"] / GRAPH,
        graph=source,
        scratch=work.scratch,
        inputs=load_inputs(work.inputs["calibration"], samples),
        skipped=_nodes_to_skip(source, () if isinstance(spec, HalfFloat) else spec.skip_layers),
    )
    graph = _quantized(job, spec)
    restore_layers(graph, source)
    if not isinstance(spec, StaticInt8):
        write_graph(graph, work.output("graph", "onnx"))
        return Result(params=_scheme_params(spec), notes=job.notes)
    return _static_result(work, spec, job, graph)


def _scheme_params(spec: Any) -> dict[str, Any]:
    """MLflow parameters: the scheme, and the processor that it was chosen for."""
    told: dict[str, Any] = {"quantize/scheme": spec.scheme}
    if isinstance(spec, StaticInt8 | DynamicInt8):
        told["quantize/reduce_range"] = spec.reduce_range
        told["quantize/weight_bits"] = 7 if spec.reduce_range else 8
        told["quantize/processor"] = processor().name
    return told


def _quantized(job: QuantizeJob, spec: Any) -> Any:
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            match spec:
                case StaticInt8():
                    return static_int8(job, spec)
                case DynamicInt8():
                    return dynamic_int8(job, spec)
                case WeightOnly():
                    return weight_only(job, spec)
                case HalfFloat():
                    return half_float(job, spec)
                case Fp8():
                    return fp8(job, spec)
        raise AssertionError(spec)
    except HoneError:
        raise
    except Exception as error:
        raise StepFailed(
            f"the graph can't be quantized: {type(error).__name__}: {telling(error)}"
            f"{_culprit(str(error), job.graph)}",
            where="quantize",
        ) from error
    finally:
        log.setLevel(level)


def _static_result(
    work: Workspace[GraphPassSpec], spec: StaticInt8, job: QuantizeJob, graph: Any
) -> Result:
    heavy = heavy_nodes(graph)
    left = left_in_float(graph)
    if len(left) == len(heavy):
        named = ", ".join(f"{layer} ({op})" for layer, op in left[:5])
        raise StepFailed(f"no layer could be quantized: {named}", where="quantize")
    result = Result(notes=job.notes)
    put_back: list[str] = []
    sensitivity: dict[str, float] = {}
    if spec.accuracy_control is not None:
        controlled = control(
            graph, job.graph, job.inputs, _drop_on_validation(work, job.graph),
            spec.accuracy_control,
            work.progress,
        )  # fmt: skip
        graph, put_back = controlled.graph, controlled.put_back
        draw(controlled, work.output("sensitivity", "report"))
        result.metrics |= {
            "quantize/validation_drop_before_control": controlled.before,
            "quantize/validation_drop": controlled.after,
        }
        sensitivity = controlled.sensitivity
        if put_back:
            named = ", ".join(put_back[:6]) + (", ..." if len(put_back) > 6 else "")
            result.notes.append(
                f"accuracy control put {len(put_back)} of {len(controlled.sensitivity)} layers "
                f"back: {named}; the validation drop went from {controlled.before:.4g} to "
                f"{controlled.after:.4g}"
            )
        if not controlled.holds:
            result.notes.append(
                f"accuracy control could not hold {spec.accuracy_control.at_most:g} with "
                f"{len(put_back)} layers back"
            )
        left = left_in_float(graph)
    write_graph(graph, work.output("graph", "onnx"))
    wanted = {*spec.skip_layers, *put_back}
    unwanted = [entry for entry in left if entry[0] not in wanted]
    if unwanted:
        named = ", ".join(f"{layer} ({op})" for layer, op in unwanted[:5])
        result.notes.append(f"{len(unwanted)} layers stay in floating point: {named}")
    result.params = {
        **_scheme_params(spec),
        "quantize/layers": len(heavy) - len(left),
        "quantize/layers_left_in_float": len(left),
        "quantize/calibration_samples": len(next(iter(job.inputs.values()))),
        "quantize/layers_put_back": len(put_back),
    }
    result.facts = QuantizeFacts(left_in_float=tuple(left), sensitivity_db=sensitivity)
    return result


def _drop_on_validation(work: Workspace[GraphPassSpec], source: Any) -> Any:
    """A function that measures a graph's loss of quality on the validation split."""
    spec = work.spec.judge
    assert spec is not None  # the layout gives one where there is accuracy control  # noqa: S101 (narrows a type)
    data = work.allowed.call(spec.data.factory, spec.data.args, "data.factory")
    splits = split(data, spec.seed)
    measure = load_metric(spec.metric, work.allowed)
    groups = batch_indices(range(len(splits.validation)), 64)
    kept = [
        (arrays(inputs), target.numpy())
        for inputs, target in batches(splits, splits.validation, groups)
    ]
    sign = 1 if spec.higher_is_better else -1

    def quality(graph: Any) -> float:
        run = runner_of(graph)
        rows = [measure.per_sample(run(inputs), target) for inputs, target in kept]
        return measure.aggregate(np.concatenate(rows))

    reference = quality(source)
    return lambda graph: sign * (reference - quality(graph))


def _nodes_to_skip(model: Any, layers: tuple[str, ...]) -> list[str]:
    by_layer: dict[str, list[str]] = {}
    for node in model.graph.node:
        by_layer.setdefault(layer_of(node), []).append(str(node.name))
    require_layers(layers, by_layer, "quantize.skip_layers")
    return [name for layer in layers for name in by_layer[layer]]


def _culprit(message: str, model: Any) -> str:
    named = [
        node for node in model.graph.node if node.name and f"{node.name}" in message.split("'")
    ]
    if named:
        return f" (layer {layer_of(named[0])}, operator {named[0].op_type})"
    operators = Counter(str(node.op_type) for node in model.graph.node)
    known = [op for op in operators if f" {op} " in f" {message} " or f"({op})" in message]
    return f" (operator {known[0]})" if known else ""
