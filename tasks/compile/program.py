"""The torch module as an exported program, for targets that compile from it themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...ray_workers.data.calling import (
    INPUT,
    Arrays,
    called,
    chosen_output,
    main_output_name,
    named_outputs,
    rebuilt,
)
from ...ray_workers.model.axes import Varying, read_axes, read_batches
from ...ray_workers.model.export_errors import as_export_error
from ...ray_workers.model.module import load_module
from ...ray_workers.model.onnx_files import load_inputs
from ...ray_workers.model.onnx_model import torch_module
from ...ray_workers.model.tracing import example_of, quiet, trace
from ...ray_workers.workspace import Workspace
from ...recipe.errors import StepFailed
from ..specs.compile import CompileSpec

_CALIBRATION_BATCH = 32


class Program:
    """A module to compile, and what a target needs to know about it.

    Attributes:
        model: In evaluation mode; takes inputs in order, and returns its output, or all of them as
            a tuple, the main one first.
        inputs: Real inputs by name, each (N, ...).
        outputs: The model's own names of its outputs, the main one first; none if it has one only.
        varying: Axes besides the batch that differ in the data.
        passes: The variant's passes on the graph.
    """

    def __init__(self, work: Workspace[CompileSpec]) -> None:
        spec = work.spec
        assert spec.model is not None  # the layout gives it to targets of modules  # noqa: S101 (narrows a type)
        inner = load_module(spec.model, work.allowed, work.inputs["module"])
        torch_module(inner, spec.target.kind)
        folder = work.inputs["calibration"]
        self.inputs: Arrays = load_inputs(folder)
        self.varying: tuple[Varying, ...] = read_axes(folder)
        self._batches = read_batches(folder)
        self.passes = spec.passes
        self.outputs = _outputs(inner, {name: v[:2] for name, v in self.inputs.items()})
        self.model = InOrder(inner, list(self.inputs), self.outputs).eval()
        if len(self.outputs) == 1:
            self.outputs = ()

    def require_fixed_shapes(self, kind: str) -> None:
        """Refuse data of more than one shape.

        Raises:
            StepFailed: Naming the axis that varies.
        """
        if self.varying:
            raise StepFailed(
                f"{kind} compiles programs of fixed shapes, and {self.varying[0]} varies in the "
                "data",
                where=kind,
                do="pad all samples to one size in the data's factory, or leave this target out",
            )

    def arguments(self, count: int) -> tuple[Any, ...]:
        """Inputs of a batch in the model's order, repeated if there are too few."""
        rows = np.arange(count) % len(next(iter(self.inputs.values())))
        return tuple(torch.from_numpy(value[rows]) for value in self.inputs.values())

    def exported(self, dynamic: bool, count: int = 2, model: nn.Module | None = None) -> Any:
        """A `torch.export.ExportedProgram`.

        Args:
            dynamic: With a batch axis of any size, instead of `count`.
            count: Samples of the batch.
            model: Instead of the module, such as a quantized one.

        Raises:
            StepFailed: Naming what can't be exported, or the line that fixes an axis.
        """
        if dynamic and model is None:
            return self._traced()
        auto = torch.export.Dim.AUTO
        free: dict[str, Any] = {name: {0: auto} for name in self.inputs}
        for axis in self.varying:
            free[axis.input][axis.axis] = auto
        shapes = tuple(free.values()) if dynamic else None
        try:
            with quiet():
                return torch.export.export(
                    self.model if model is None else model,
                    self.arguments(max(2, count) if dynamic else count),
                    dynamic_shapes=shapes,
                )
        except Exception as error:
            raise as_export_error(error) from error

    def _traced(self) -> Any:
        names = list(self.inputs)
        if len(names) == 1:
            ours = {names[0]: INPUT}
        else:
            ours = {name: f"{INPUT}_{i}" for i, name in enumerate(names)}
        example = example_of([*self._batches, self.inputs])
        given = {ours[name]: example[name] for name in names}
        varying = [axis.model_copy(update={"input": ours[axis.input]}) for axis in self.varying]
        users = {own: name for name, own in ours.items()}
        return trace(self.model, given, varying, users).program

    def quantization(self, kind: str, can: dict[str, str]) -> dict[str, Any] | None:
        """The one quantize pass of the variant, or None.

        Args:
            kind: Of the target.
            can: How the target implements each scheme that it supports.

        Raises:
            StepFailed: The target does not support a pass of the variant.
        """
        found = [step for step in self.passes if step.kind != "fold"]
        if not found:
            return None
        step = found[-1]
        scheme = step.wish
        if len(found) > 1 or step.kind != "quantize" or scheme not in can:
            raise StepFailed(
                f"{kind} can't do '{scheme}'",
                where=kind,
                do=f"it can: {', '.join(can) or 'no quantization'}; or use another target",
            )
        return step.model_dump(mode="json")

    def calibration(self, samples: int) -> list[tuple[Any, ...]]:
        """Calibration batches in the model's order."""
        count = min(samples, len(next(iter(self.inputs.values()))))
        return [
            tuple(torch.from_numpy(v[i : i + _CALIBRATION_BATCH]) for v in self.inputs.values())
            for i in range(0, count - count % _CALIBRATION_BATCH or count, _CALIBRATION_BATCH)
        ]


class InOrder(nn.Module):
    """A model that takes its inputs in order, and returns a tensor, or a tuple of all its outputs.

    Args:
        inner: The model.
        names: Of its inputs, as `arrays` names them.
        outputs: Names of its outputs, in the order in which they are returned.
    """

    def __init__(self, inner: nn.Module, names: list[str], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.names = names
        self.outputs = outputs

    def forward(self, *arguments: torch.Tensor) -> Any:
        batch = rebuilt(dict(zip(self.names, arguments, strict=True)))
        found = named_outputs(called(self.inner, batch))
        if len(self.outputs) == 1:
            return found[self.outputs[0]]
        return tuple(found[name] for name in self.outputs)


def _outputs(model: nn.Module, batch: Arrays) -> tuple[str, ...]:
    """Names of a model's outputs, the main one first; one that is returned twice only once."""
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
        found = named_outputs(called(model, rebuilt(tensors)))
    main = main_output_name(list(found), chosen_output(model))
    order = [main, *(name for name in found if name != main)]
    kept: list[str] = []
    for name in order:
        if not any(found[name] is found[other] for other in kept):
            kept.append(name)
    return tuple(kept)


def quantized_pt2e(program: Program, quantizer: Any, step: dict[str, Any]) -> nn.Module:
    """The module, statically quantized by torchao (PT2E), with ranges from calibration data.

    https://docs.pytorch.org/ao/stable/pt2e_quantization/pt2e_quant_ptq.html
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    graph = program.exported(dynamic=True).module()
    prepared = prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        for arguments in program.calibration(step.get("samples", 256)):
            prepared(*arguments)
    made: nn.Module = convert_pt2e(prepared)
    return made


def save_for_environment(program: Program, step: dict[str, Any] | None, folder: Path) -> None:
    """Write what a builder in an isolated environment reads: program and calibration inputs."""
    torch.export.save(program.exported(dynamic=True), folder / "program.pt2")
    rows = program.calibration(step.get("samples", 256) if step else 1)
    columns = [torch.cat(column).numpy() for column in zip(*rows, strict=True)]
    np.savez(folder / "calibration.npz", *columns)


__all__ = ["InOrder", "Program", "quantized_pt2e", "save_for_environment"]
