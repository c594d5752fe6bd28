"""ONNX Runtime, with any execution provider. The artifact is an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .compiled_artifact import CompiledArtifact
from .fixed_batches import for_batch_sizes
from .predict import Arrays, LoadOptions, Outputs, Predict, as_outputs, names_in_graph
from .tensorrt_cache import tensorrt_cache

NAME = "onnxruntime"
LIBRARIES: Mapping[str, str] = {"onnxruntime": "onnxruntime"}
ENVIRONMENT: str | None = None

GRAPH = "model.onnx"
#: Name of the batch axis in the exported graph.
BATCH_AXIS = "batch"
_TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntimeSettings:
    """How the artifact is opened.

    Attributes:
        providers: Execution providers in order, each with its options.
        graph_level: How far the graph is rewritten for this machine.
        arena: Use a memory arena, which keeps freed memory.
        denormals: Compute with denormal numbers.
        threads: Within an operator; None: as in the caller's options.
    """

    providers: Sequence[tuple[str, Mapping[str, Any]]]
    graph_level: str = "all"
    arena: bool = True
    denormals: bool = True
    threads: int | None = None


def load(folder: Path, options: LoadOptions) -> Predict:
    """Open an artifact.

    Args:
        folder: The artifact.
        options: `threads`: threads within an operator.
    """
    import onnxruntime

    artifact = CompiledArtifact.read(folder)
    settings = OnnxRuntimeSettings(**artifact.settings)
    levels = onnxruntime.GraphOptimizationLevel

    def compiled(size: int | None) -> Predict:
        chosen = onnxruntime.SessionOptions()
        chosen.log_severity_level = 3
        chosen.intra_op_num_threads = int(settings.threads or options.get("threads", 0))
        chosen.inter_op_num_threads = 1
        chosen.enable_cpu_mem_arena = settings.arena
        if not settings.denormals:
            chosen.add_session_config_entry("session.set_denormal_as_zero", "1")
        chosen.graph_optimization_level = {
            "disabled": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[settings.graph_level]
        if size is not None:
            chosen.add_free_dimension_override_by_name(BATCH_AXIS, size)
        session = onnxruntime.InferenceSession(
            str(folder / GRAPH), chosen, providers=_providers(settings)
        )

        takes = {item.name for item in session.get_inputs()}
        wanted = names_in_graph(artifact.outputs, takes)

        def predict(inputs: Arrays) -> Outputs:
            return as_outputs(session.run(wanted, inputs), artifact.outputs)

        return predict

    return for_batch_sizes(artifact.batch_sizes, compiled)


def _providers(settings: OnnxRuntimeSettings) -> list[tuple[str, dict[str, Any]]]:
    """As ONNX Runtime takes them; TensorRT's engines are kept on this machine between loads."""
    found = []
    for name, given in settings.providers:
        kept: dict[str, Any] = {}
        if name == _TENSORRT:
            cache = str(tensorrt_cache())
            kept = {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": cache,
                "trt_timing_cache_enable": True,
                "trt_timing_cache_path": cache,
            }
        found.append((name, {**kept, **given}))
    return found
