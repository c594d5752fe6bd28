"""Quantize: the graph in fewer bits, in a form that every runtime reads."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections import Counter
from typing import Any

from ...ray_workers.data.asking import data_of
from ...ray_workers.data.calling import arrays
from ...ray_workers.data.splits import batch_indices, batches, split
from ...ray_workers.metrics import stacked
from ...ray_workers.metrics.judgement import Judgement
from ...ray_workers.model.float32_form import as_float32, has_other_floats
from ...ray_workers.model.layers import require_layers
from ...ray_workers.model.onnx_files import (
    graphs_of,
    layer_of,
    load_inputs,
    read_graph,
    restore_layers,
    write_graph,
)
from ...ray_workers.model.regular_graph import regular
from ...ray_workers.processor import processor
from ...ray_workers.store.file_names import GRAPH
from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import HoneError, NothingChanged, StepFailed
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
from .coverage import PUT_BACK, SKIPPED, of_quantization, tell
from .schemes.accuracy import control, draw
from .schemes.fp8 import fp8
from .schemes.job import RECURRENT, QuantizeJob, heavy_nodes, reaches_bodies
from .schemes.others import dynamic_int8, half_float, weight_only
from .schemes.runners import predictor_of
from .schemes.static_int8 import static_int8


def apply(work: Workspace[GraphPassSpec]) -> Result:
    """Quantize a graph.

    Inputs: `graph`, `calibration`. Output: `graph`, quantized; with accuracy control also
    `sensitivity`.

    Raises:
        NothingChanged: No layer can be quantized; with their names and reasons.
        StepFailed: A layer to skip does not exist, or the calibration inputs don't fit the graph.
    """
    spec = for_processor(work.spec.compression, processor().saturates_int8)
    source = regular(read_graph(work.inputs["graph"]), "quantize")
    notes: list[str] = []
    kind = has_other_floats(source)
    if isinstance(spec, HalfFloat):
        if kind == spec.scheme.replace("fp16", "float16").replace("bf16", "bfloat16"):
            raise NothingChanged(f"the weights are {kind} already", where="quantize.scheme")
    elif kind is not None:
        as_float32(source)
        notes.append(f"what stays in floating point is computed in fp32, not in {kind}")
    write_graph(copy.deepcopy(source), work.scratch)
    samples = 1 if isinstance(spec, DynamicInt8 | HalfFloat) else spec.samples
    job = QuantizeJob(
        source=work.scratch / GRAPH,
        graph=source,
        scratch=work.scratch,
        inputs=load_inputs(work.inputs["calibration"], samples),
        skipped=_nodes_to_skip(source, () if isinstance(spec, HalfFloat) else spec.skip_layers),
        notes=notes,
    )
    _require_layers_to_quantize(job, spec)
    graph = _quantized(job, spec)
    restore_layers(graph, source)
    if isinstance(spec, HalfFloat):
        write_graph(graph, work.output("graph", "onnx"))
        return Result(params=_scheme_params(spec), notes=job.notes)
    if isinstance(spec, StaticInt8):
        return _static_result(work, spec, job, graph)
    reasons = job.left | dict.fromkeys(spec.skip_layers, SKIPPED)
    coverage = of_quantization(job, graph, spec.scheme, reasons, _BITS[spec.scheme])
    result = Result(params=_scheme_params(spec), notes=job.notes)
    result.facts = QuantizeFacts(coverage=coverage)
    tell(result, coverage, "quantized", "quantize")
    write_graph(graph, work.output("graph", "onnx"))
    return result


_BITS = {"static-int8": 8, "dynamic-int8": 8, "weight-int8": 8, "weight-int4": 4, "fp8": 8}


def _require_layers_to_quantize(job: QuantizeJob, spec: Any) -> None:
    """Refuse a graph in which the scheme could not quantize anything.

    Raises:
        NothingChanged: With what the graph has, and what to do.
    """
    if isinstance(spec, HalfFloat) or heavy_nodes(job.graph):
        return
    operators = {node.op_type for graph in graphs_of(job.graph.graph) for node in graph.node}
    bodies = reaches_bodies(job.graph)
    if (bodies or operators & {*RECURRENT}) and spec.scheme == "weight-int8":
        return
    if bodies and spec.scheme == "dynamic-int8":
        return
    what = "no convolution or matrix product among " + ", ".join(sorted(operators))
    do = None
    if bodies or operators & {*RECURRENT}:
        what = (
            "its layers are in the bodies of If, Loop or Scan"
            if bodies
            else f"its layers are recurrent ({', '.join(sorted(operators & {*RECURRENT}))})"
        ) + f", which {spec.scheme} does not reach"
        do = "use scheme weight-int8"
    raise NothingChanged(f"there is nothing to quantize: {what}", where="quantize", do=do)


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
            do=_instead(spec),
        ) from error
    finally:
        log.setLevel(level)


def _instead(spec: Any) -> str:
    """What else a user can try where a tool fails."""
    if isinstance(spec, StaticInt8):
        return f"try engine: {'nncf' if spec.engine == 'onnxruntime' else 'onnxruntime'}"
    if isinstance(spec, WeightOnly) and spec.scheme == "weight-int8":
        return "try scheme: static-int8"
    return "try scheme: weight-int8"


def _static_result(
    work: Workspace[GraphPassSpec], spec: StaticInt8, job: QuantizeJob, graph: Any
) -> Result:
    reasons = dict.fromkeys(spec.skip_layers, SKIPPED)
    coverage = of_quantization(job, graph, spec.scheme, reasons, _BITS[spec.scheme])
    result = Result(notes=job.notes)
    tell(result, coverage, "quantized", "quantize")
    put_back: list[str] = []
    sensitivity: dict[str, float] = {}
    if spec.accuracy_control is not None:
        controlled = control(
            graph, job.graph, job.inputs, _drop_on_validation(work, job.graph),
            spec.accuracy_control,
            work.progress, _runtimes(work),
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
                f"accuracy control could not hold {spec.accuracy_control.at_most:g} on "
                f"{' and '.join(_runtimes(work))} with {len(put_back)} layers back"
            )
        reasons |= dict.fromkeys(put_back, PUT_BACK)
        coverage = of_quantization(job, graph, spec.scheme, reasons, _BITS[spec.scheme])
        result.metrics["quantize/coverage"] = coverage.fraction
    write_graph(graph, work.output("graph", "onnx"))
    result.params |= {
        **_scheme_params(spec),
        "quantize/layers": len(coverage.done),
        "quantize/layers_left_in_float": len(coverage.left),
        "quantize/calibration_samples": len(next(iter(job.inputs.values()))),
        "quantize/layers_put_back": len(put_back),
    }
    result.facts = QuantizeFacts(
        left_in_float=tuple((layer.layer, layer.operator) for layer in coverage.left),
        sensitivity_db=sensitivity,
        coverage=coverage,
    )
    return result


def _drop_on_validation(work: Workspace[GraphPassSpec], source: Any) -> Any:
    """A function that measures a graph's loss of quality on the validation split, through each
    runtime that will serve it: the largest."""
    spec = work.spec.judge
    assert spec is not None  # the layout gives one where there is accuracy control  # noqa: S101 (narrows a type)
    data = data_of(work, spec.data)
    splits = split(data, spec.seed)
    measure = Judgement(spec, work.allowed)
    groups = batch_indices(range(len(splits.validation)), 64)
    kept = [
        (arrays(inputs), target) for inputs, target in batches(splits, splits.validation, groups)
    ]
    sign = 1 if spec.higher_is_better else -1

    def quality(graph: Any, runtime: str) -> float:
        run = predictor_of(graph, runtime)
        rows = [measure.per_sample(run(inputs), target) for inputs, target in kept]
        return measure.aggregate(stacked(rows))

    reference = quality(source, "onnxruntime")
    runtimes = _runtimes(work)
    return lambda graph: max(sign * (reference - quality(graph, name)) for name in runtimes)


def _runtimes(work: Workspace[GraphPassSpec]) -> tuple[str, ...]:
    """The runtimes that will serve the graph."""
    return work.spec.judge.runtimes if work.spec.judge is not None else ("onnxruntime",)


def _nodes_to_skip(model: Any, layers: tuple[str, ...]) -> list[str]:
    by_layer: dict[str, list[str]] = {}
    for node in (node for graph in graphs_of(model.graph) for node in graph.node):
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
