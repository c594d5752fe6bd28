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
from .predict import Array, Arrays, LoadOptions, Predict

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

    built_with = TensorRtSettings(**CompiledArtifact.read(folder).settings).version
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

    def predict(inputs: Arrays) -> Array:
        held: dict[str, Any] = {}
        with torch.cuda.stream(stream):
            for name in takes:
                held[name] = torch.from_numpy(inputs[name]).cuda(non_blocking=True)
                context.set_input_shape(name, tuple(held[name].shape))
            for name in set(names) - set(takes):
                shape = tuple(context.get_tensor_shape(name))
                held[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
            for name, tensor in held.items():
                context.set_tensor_address(name, tensor.data_ptr())
            context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        output: Array = held["output"].cpu().numpy()
        return output

    return predict
