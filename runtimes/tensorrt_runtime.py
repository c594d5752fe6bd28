"""TensorRT. The artifact is an engine, which works only with the GPU and version that it was built
with. Never run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .compiled_artifact import CompiledArtifact
from .errors import RuntimeFailed
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs, names_in_graph

NAME = "tensorrt"
LIBRARIES: Mapping[str, str] = {"tensorrt": "tensorrt", "torch": "torch"}
ENVIRONMENT: str | None = None

ENGINE = "model.engine"


@dataclass(frozen=True)
class TensorRtSettings:
    """How the artifact is opened.

    Attributes:
        version: Version of TensorRT that built the engine.
    """

    version: str


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact; inputs and outputs are copied from and to the host, through torch's memory.

    Raises:
        RuntimeFailed: Another version of TensorRT built it.
    """
    import tensorrt as trt
    import torch

    artifact = CompiledArtifact.read(folder)
    built_with = TensorRtSettings(**artifact.settings).version
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine((folder / ENGINE).read_bytes())
    if engine is None:
        raise RuntimeFailed(
            f"TensorRT {trt.__version__} can't open an engine of TensorRT {built_with}",
            where=str(folder),
            do=f"pip install tensorrt=={built_with}, on the kind of GPU that it was built on",
        )
    context = engine.create_execution_context()
    stream = torch.cuda.Stream()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    takes = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]

    wanted = names_in_graph(artifact.outputs, takes)
    kinds = {name: getattr(torch, trt.nptype(engine.get_tensor_dtype(name)).__name__)
             for name in wanted}  # fmt: skip

    def predict(inputs: Arrays) -> Outputs:
        held: dict[str, Any] = {}
        with torch.cuda.stream(stream):
            for name in takes:
                held[name] = torch.from_numpy(inputs[name]).cuda(non_blocking=True)
                context.set_input_shape(name, tuple(held[name].shape))
            for name in set(names) - set(takes):
                shape = tuple(context.get_tensor_shape(name))
                kind = kinds.get(name, torch.float32)
                held[name] = torch.empty(shape, dtype=kind, device="cuda")
            for name, tensor in held.items():
                context.set_tensor_address(name, tensor.data_ptr())
            context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return as_outputs([held[name].cpu().numpy() for name in wanted], artifact.outputs)

    return predict
