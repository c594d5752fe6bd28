"""The torch module as an exported program, for targets that compile from it themselves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...ray_workers.model.export_errors import as_export_error
from ...ray_workers.model.module import load_module
from ...ray_workers.model.onnx_files import Arrays, load_inputs
from ...ray_workers.model.onnx_model import torch_module
from ...ray_workers.workspace import Workspace
from ...recipe.errors import StepFailed
from ..specs.compile import CompileSpec

_CALIBRATION_BATCH = 32


class Program:
    """A module to compile, and what a target needs to know about it.

    Attributes:
        model: In evaluation mode; its output is the main output alone.
        inputs: Real inputs by name, each (N, ...).
        passes: The variant's passes on the graph.
    """

    def __init__(self, work: Workspace[CompileSpec]) -> None:
        spec = work.spec
        assert spec.model is not None  # the layout gives it to targets of modules  # noqa: S101 (narrows a type)
        inner = load_module(spec.model, work.allowed, work.inputs["module"])
        torch_module(inner, spec.target.kind)
        self.inputs: Arrays = load_inputs(work.inputs["calibration"])
        self.passes = spec.passes
        self.model = MainOutput(inner, list(self.inputs)).eval()

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
            StepFailed: Naming what can't be exported.
        """
        axis = torch.export.Dim("batch", min=1, max=4096)
        shapes: Any = tuple({0: axis} for _ in self.inputs) if dynamic else None
        chosen = self.model if model is None else model
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                named = {"arguments": shapes} if model is None and shapes is not None else shapes
                return torch.export.export(
                    chosen, self.arguments(max(2, count) if dynamic else count),
                    dynamic_shapes=named,
                )  # fmt: skip
        except Exception as error:
            raise as_export_error(error) from error

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


class MainOutput(nn.Module):
    """A model called with positional inputs, whose only output is the main one.

    Args:
        inner: The model.
        names: Of its inputs; one is passed positionally, several by keyword.
    """

    def __init__(self, inner: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.inner = inner
        self.names = names

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        from ...ray_workers.data.calling import call_model

        if len(self.names) == 1:
            return call_model(self.inner, tensors_named(self.names, arguments))
        return call_model(self.inner, dict(zip(self.names, arguments, strict=True)))


def tensors_named(names: list[str], arguments: tuple[torch.Tensor, ...]) -> Any:
    """What a model takes: a tensor, or a dictionary by name."""
    from ...ray_workers.data.calling import INPUT

    return arguments[0] if names == [INPUT] else dict(zip(names, arguments, strict=True))


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


__all__ = ["MainOutput", "Program", "quantized_pt2e", "save_for_environment"]
