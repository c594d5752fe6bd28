"""What a person does without Hone: torch.onnx.export, ONNX Runtime's quantizer, NNCF, torch-pruning.

With their defaults and the advice of their documentation, and no more.
"""

from __future__ import annotations

import contextlib
import io
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zoo_models
from prefect_hone.ray_workers.data.calling import (
    arrays,
    call_model,
    main_output_name,
    named_outputs,
    rebuilt,
    tensors,
)
from prefect_hone.ray_workers.processor import processor

Arrays = dict[str, np.ndarray[Any, Any]]
#: Calibration and test samples, as in `zoo_models.data`.
_TEST, _CALIBRATION = slice(0, 4), slice(16, 20)
_TRACED = slice(0, 2)


def batch(name: str, rows: slice) -> Arrays:
    """Inputs by name."""
    return {key: value[rows] for key, value in arrays(zoo_models.inputs(name)).items()}


def expected(name: str) -> tuple[np.ndarray[Any, Any], int]:
    """torch's main output for the test samples, and its position."""
    with torch.no_grad():
        returned = _called(zoo_models.model(name), batch(name, _TEST))
    named = named_outputs(returned)
    position = list(named).index(main_output_name(list(named)))
    return list(named.values())[position].float().numpy(), position


def _called(model: torch.nn.Module, named: Arrays) -> Any:
    args, kwargs = _arguments(named)
    return model(*args, **kwargs)


def _arguments(named: Arrays) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = tensors(named)
    if isinstance(given, dict):
        return (), given
    return (given if isinstance(given, tuple) else (given,)), {}


def exported(name: str, folder: Path) -> Path:
    """The graph by `torch.onnx.export`, with a batch that varies."""
    path = folder / f"by-hand-{name}.onnx"
    if path.exists():
        return path
    model, named = zoo_models.model(name), batch(name, _TRACED)
    args, kwargs = _arguments(named)
    free = {0: torch.export.Dim("batch")}
    shapes: Any = dict.fromkeys(kwargs, free) if kwargs else tuple(free for _ in args)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(
            model, args, str(path), kwargs=kwargs, dynamo=True, dynamic_shapes=shapes,
            input_names=list(named), verbose=False,
        )  # fmt: skip
    return path


def by_onnxruntime(path: Path, given: Arrays, position: int) -> np.ndarray[Any, Any]:
    """An output, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    takes = {item.name for item in session.get_inputs()}
    found = session.run(None, {k: v for k, v in given.items() if k in takes})[position]
    return np.asarray(found)


def by_openvino(model: Any, given: Arrays, position: int) -> np.ndarray[Any, Any]:
    """An output, by OpenVINO, of a file or a model."""
    import openvino

    core = openvino.Core()
    if isinstance(model, Path):
        model = core.read_model(model)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    takes = {name for item in compiled.inputs for name in item.get_names()}
    found = compiled({k: v for k, v in given.items() if k in takes})
    return np.asarray(found[compiled.outputs[position]])


def quantized(name: str, path: Path, folder: Path) -> Path:
    """By ONNX Runtime's static quantizer, as its documentation says."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    rows = batch(name, _CALIBRATION)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Arrays] = iter(_singles(rows))

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    prepared, target = folder / "by-hand-prepared.onnx", folder / "by-hand-int8.onnx"
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.chdir(folder),  # where shape inference fails, it leaves the graph there
    ):
        quant_pre_process(str(path), str(prepared))
        quantize_static(
            str(prepared), str(target), Reader(), per_channel=True,
            reduce_range=processor().saturates_int8,
        )  # fmt: skip
    return target


def quantized_by_nncf(name: str, path: Path) -> Any:
    """An OpenVINO model by NNCF, as its documentation says."""
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    takes = {n for item in model.inputs for n in item.get_names()}
    rows = [{k: v for k, v in one.items() if k in takes} for one in
            _singles(batch(name, _CALIBRATION))]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows))


def _singles(rows: Arrays) -> list[Arrays]:
    count = len(next(iter(rows.values())))
    return [{name: value[i : i + 1] for name, value in rows.items()} for i in range(count)]


def pruned(name: str, seconds: int = 30) -> float:
    """Half of the channels by torch-pruning; the share of weights that are left.

    Raises:
        TimeoutError: Its search does not end.
    """
    import torch_pruning as tp

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"not finished within {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        return _pruned(tp, name)
    finally:
        signal.alarm(0)


def _pruned(tp: Any, name: str) -> float:
    model = zoo_models.model(name)
    given = rebuilt({k: torch.from_numpy(v) for k, v in batch(name, _TRACED).items()})
    before = sum(p.numel() for p in model.parameters())
    last = _last_layer(model, given)
    kept = [] if last is None else [dict(model.named_modules())[last]]
    pruner = tp.pruner.BasePruner(
        model, given, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=0.5,
        ignored_layers=kept, round_to=4,
    )  # fmt: skip
    pruner.step()
    with torch.no_grad():
        call_model(model.eval(), given)
    return sum(p.numel() for p in model.parameters()) / before


def distance(truth: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The largest difference as a share of the largest output, and the SQNR (dB)."""
    if truth.shape != found.shape:
        raise ValueError(f"shape {found.shape} instead of {truth.shape}")
    apart = truth.astype(np.float64) - found
    largest = float(np.abs(apart).max() / max(1e-6, float(np.abs(truth).max())))
    noise = float(np.square(apart).sum())
    signal = float(np.square(truth.astype(np.float64)).sum())
    return largest, 10 * float(np.log10(signal / noise)) if noise and signal else 200.0


def attempt(work: Callable[[], Any]) -> tuple[str, Any]:
    """`ok` and what it gives, or how it failed."""
    try:
        return "ok", work()
    except Exception as error:
        plain = re.sub(r"\x1b\[\d*m", "", str(error))
        return f"{type(error).__name__}: {' '.join(plain.split())[:200]}", None


def graph(name: str, folder: Path, parity: float) -> dict[str, Any]:
    """Export, both runtimes, another batch size than the one that was traced."""
    said, path = attempt(lambda: exported(name, folder))
    row: dict[str, Any] = {"export": said}
    if path is None:
        return row
    truth, position = expected(name)
    given = batch(name, _TEST)
    for runtime, call in (("onnxruntime", by_onnxruntime), ("openvino", by_openvino)):
        said, found = attempt(lambda call=call: distance(truth, call(path, given, position)))  # type: ignore[misc]
        row[runtime] = said
        if found is not None:
            row[runtime] = "ok" if found[0] <= parity else f"{found[0]:.1e} away"
            row[f"{runtime}_db"] = round(found[1], 1)
    return row


def int8(name: str, folder: Path) -> dict[str, Any]:
    """Static int8 by each runtime's own tool."""
    said, path = attempt(lambda: exported(name, folder))
    if path is None:
        return {"onnxruntime": said, "openvino": said}
    truth, position = expected(name)
    given = batch(name, _TEST)
    row: dict[str, Any] = {}
    for runtime, work in (
        ("onnxruntime",
         lambda: by_onnxruntime(quantized(name, path, folder), given, position)),
        ("openvino", lambda: by_openvino(quantized_by_nncf(name, path), given, position)),
    ):  # fmt: skip
        row[runtime], found = attempt(lambda work=work: distance(truth, work()))  # type: ignore[misc]
        if found is not None:
            row[f"{runtime}_db"] = round(found[1], 1)
    return row


def _last_layer(model: torch.nn.Module, sample: Any) -> str | None:
    """Name of the layer that runs last, which is taken to compute the outputs."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: order.append(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)
    ]
    with torch.no_grad():
        call_model(model.eval(), sample)
    for handle in handles:
        handle.remove()
    return order[-1] if order else None
