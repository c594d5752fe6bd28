"""AOTInductor, for both devices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PACKAGE = "model.pt2"
_SETTINGS = "settings.json"


def unavailable_compiler() -> Any:
    """None if there is a C++ compiler."""
    from . import Unavailable

    if any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        return None
    return Unavailable(
        reason="there is no C++ compiler, which Inductor needs",
        do="apt-get install g++",
        installable=True,
    )


def compile_package(
    work: Any, kind: str, precision: str, options: dict[str, Any], can: dict[str, str], device: str
) -> Any:
    """Export, quantize where the variant asks for it, and compile into a package."""
    import torch

    from ...ray_workers.torch_private import make_package
    from ...ray_workers.workspace import Result
    from ...recipe.errors import HoneError, StepFailed
    from ...recipe.library_messages import telling
    from .program import Program, quantized_pt2e

    program = Program(work)
    step = program.quantization(kind, can)
    model = None
    if step is not None:
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(
            x86.get_default_x86_inductor_quantization_config()
        )
        model = quantized_pt2e(program, quantizer, step)
    elif precision != "fp32" or device != "cpu":
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        program.model = _Cast(program.model.to(device, dtype), dtype, device).eval()
    try:
        exported = program.exported(dynamic=True, model=model)
        folder = work.output("model", kind)
        with torch.no_grad():
            make_package(
                exported,
                folder / _PACKAGE,
                # Freezing gives an int8 graph wrong outputs (torch 2.13: cosine 0.98).
                {"freezing": step is None, **options},
            )
    except HoneError:
        raise
    except Exception as error:
        raise StepFailed(
            f"Inductor can't compile the model: {telling(error)}", where=kind
        ) from error
    said = {"names": list(program.inputs), "target": work.spec["target"]}
    (folder / _SETTINGS).write_text(json.dumps(said))
    return Result(params={"compile/precision": precision, "compile/int8": step is not None})


class _Cast:
    """Made below, so that importing this module does not import torch."""

    def __new__(cls, inner: Any, dtype: Any, device: str) -> Any:
        import torch

        class Cast(torch.nn.Module):
            """Floating-point inputs in the model's type and on its device, fp32 outputs."""

            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
                moved = [
                    a.to(device, dtype) if a.is_floating_point() else a.to(device)
                    for a in arguments
                ]
                out: torch.Tensor = self.inner(*moved).float()
                return out

        return Cast()


def load_package(
    folder: Path, options: dict[str, Any], device: str
) -> Callable[[dict[str, Any]], Any]:
    """A runner of a package."""
    import torch

    from ...ray_workers.torch_private import open_package

    settings = json.loads((folder / _SETTINGS).read_text())
    threads = settings["target"].get("threads") or options.get("threads")
    if threads:
        torch.set_num_threads(int(threads))
    model = open_package(folder / _PACKAGE)
    names = settings["names"]

    def run(inputs: dict[str, Any]) -> Any:
        with torch.inference_mode():
            arguments = [torch.from_numpy(inputs[name]) for name in names]
            if device == "cuda":
                arguments = [a.cuda(non_blocking=True) for a in arguments]
            return model(*arguments).float().cpu().numpy()

    return _replayed(model, names, run) if settings["target"].get("cuda_graphs") else run


def _replayed(model: Any, names: list[str], plain: Any) -> Callable[[dict[str, Any]], Any]:
    """With a CUDA graph for each shape of inputs: recorded at the first call, then replayed."""
    import torch

    graphs: dict[tuple[Any, ...], tuple[Any, list[Any], Any]] = {}

    def record(inputs: dict[str, Any]) -> tuple[Any, list[Any], Any]:
        held = [torch.from_numpy(inputs[name]).cuda() for name in names]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):
                model(*held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.inference_mode():
            output = model(*held)
        return graph, held, output

    def run(inputs: dict[str, Any]) -> Any:
        key = tuple(inputs[name].shape for name in names)
        if key not in graphs:
            graphs[key] = record(inputs)
        graph, held, output = graphs[key]
        for tensor, name in zip(held, names, strict=True):
            tensor.copy_(torch.from_numpy(inputs[name]), non_blocking=True)
        graph.replay()
        return output.float().cpu().numpy()

    return run
