"""AOTInductor, on a CPU or an NVIDIA GPU. The artifact is a package with a shared library, which
runs only on the kind of machine that it was compiled on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .compiled_artifact import CompiledArtifact
from .errors import RuntimeFailed
from .predict import Array, Arrays, LoadOptions, Outputs, Predict, as_outputs

NAME = "inductor"
LIBRARIES: Mapping[str, str] = {"torch": "torch"}
ENVIRONMENT: str | None = None

PACKAGE = "model.pt2"


@dataclass(frozen=True)
class InductorSettings:
    """How the artifact is opened.

    Attributes:
        device: `cpu` or `cuda`.
        cuda_graphs: Record a CUDA graph once and replay it.
        threads: Torch's threads; None: as in the caller's options.
    """

    device: str
    cuda_graphs: bool = False
    threads: int | None = None


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact; with a GPU, inputs and outputs are copied from and to the host, as a
    server's would be.

    Args:
        folder: The artifact.
        options: `threads`: threads of torch.
    """
    import torch

    artifact = CompiledArtifact.read(folder)
    settings = InductorSettings(**artifact.settings)
    threads = settings.threads or options.get("threads")
    if threads:
        torch.set_num_threads(int(threads))
    model = _open(folder / PACKAGE)
    names = artifact.inputs

    def predict(inputs: Arrays) -> Outputs:
        with torch.inference_mode():
            arguments = [torch.from_numpy(inputs[name]) for name in names]
            if settings.device == "cuda":
                arguments = [a.cuda(non_blocking=True) for a in arguments]
            return as_outputs(_arrays(model(*arguments)), artifact.outputs)

    return _replayed(model, artifact) if settings.cuda_graphs else predict


def _arrays(outputs: Any) -> list[Array]:
    """Tensors on any device as arrays; floating-point ones as float32."""
    tensors = outputs if isinstance(outputs, tuple | list) else [outputs]
    return [(t.float() if t.is_floating_point() else t).cpu().numpy() for t in tensors]


def _open(package: Path) -> Any:
    """A package as a function of tensors, by AOTInductor: documented
    (https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html) and underscored all the
    same.
    """
    import torch

    try:
        from torch._inductor import aoti_load_package
    except ImportError as error:
        raise RuntimeFailed(
            f"torch {torch.__version__} has no torch._inductor.aoti_load_package any more",
            do="install the version of torch that the model was compiled with",
        ) from error
    return aoti_load_package(str(package))


def _replayed(model: Any, artifact: CompiledArtifact) -> Predict:
    """With a CUDA graph for each shape of inputs: recorded at the first call, then replayed."""
    import torch

    names = artifact.inputs
    graphs: dict[tuple[Any, ...], tuple[Any, list[Any], Any]] = {}

    def record(inputs: Arrays) -> tuple[Any, list[Any], Any]:
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

    def predict(inputs: Arrays) -> Outputs:
        key = tuple(inputs[name].shape for name in names)
        if key not in graphs:
            graphs[key] = record(inputs)
        graph, held, output = graphs[key]
        for tensor, name in zip(held, names, strict=True):
            tensor.copy_(torch.from_numpy(inputs[name]), non_blocking=True)
        graph.replay()
        return as_outputs(_arrays(output), artifact.outputs)

    return predict
