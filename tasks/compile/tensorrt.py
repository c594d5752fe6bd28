"""tensorrt: an engine made by TensorRT's builder. Never run on a GPU yet.

https://docs.nvidia.com/deeplearning/tensorrt/latest/. The engine works only with the GPU and
version that it was built with. Quantized graphs keep their QuantizeLinear and DequantizeLinear,
which make the precision explicit.
"""

from __future__ import annotations

from dataclasses import asdict

from ...ray_workers.workspace import Result, Workspace
from ...recipe.errors import StepFailed
from ...recipe.targets import TensorRt
from ...runtimes.compiled_artifact import CompiledArtifact
from ...runtimes.tensorrt_cache import tensorrt_cache
from ...runtimes.tensorrt_runtime import ENGINE, NAME, TensorRtSettings
from ...runtimes.tensorrt_runtime import load as load
from ..specs.compile import CompileSpec
from . import Unavailable
from ._cuda import unavailable_cuda


def availability(_target: TensorRt) -> Unavailable | None:
    """None if there is a GPU and TensorRT."""
    found: Unavailable | None = unavailable_cuda("tensorrt")
    return found


def compile_graph(work: Workspace[CompileSpec]) -> Result:
    """Input: `graph`. Output: `model`.

    Raises:
        StepFailed: TensorRT can't parse or build the graph; with the operator that it names.
    """
    import tensorrt as trt

    from ...ray_workers.model.axes import axes_of_graph
    from ...ray_workers.model.onnx_files import PRECISION, outputs_of, property_of, read_graph
    from ...ray_workers.store.file_names import GRAPH

    target = work.spec.target
    assert isinstance(target, TensorRt)  # noqa: S101 (narrows a type)
    source = read_graph(work.inputs["graph"])
    quantized = any(node.op_type == "QuantizeLinear" for node in source.graph.node)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(work.inputs["graph"] / GRAPH)):
        said = "; ".join(
            f"{parser.get_error(i).node_name() or 'graph'}: {parser.get_error(i).desc()}"
            for i in range(min(3, parser.num_errors))
        )
        raise StepFailed(f"TensorRT can't parse the graph: {said}", where="tensorrt")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, target.workspace_mb * 2**20)
    config.builder_optimization_level = target.optimization_level
    wanted = {target.precision, property_of(source, PRECISION)}
    for precision, flag in (("fp16", "FP16"), ("bf16", "BF16"), ("fp8", "FP8")):
        if precision in wanted:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if quantized:
        config.set_flag(trt.BuilderFlag.INT8)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        least, most = list(tensor.shape), list(tensor.shape)
        for axis in axes_of_graph(source):
            if axis.input == tensor.name:
                least[axis.axis], most[axis.axis] = axis.least, axis.most
        profile.set_shape(
            tensor.name,
            (1, *least[1:]),
            (target.usual_batch, *most[1:]),
            (target.largest_batch, *most[1:]),
        )
    config.add_optimization_profile(profile)
    timing = tensorrt_cache() / f"tensorrt-{trt.__version__}.timing"
    cache = config.create_timing_cache(timing.read_bytes() if timing.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=True)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise StepFailed("TensorRT could not build an engine", where="tensorrt")
    timing.write_bytes(bytes(config.get_timing_cache().serialize()))
    folder = work.output("model", "tensorrt")
    (folder / ENGINE).write_bytes(bytes(engine))
    settings = asdict(TensorRtSettings(trt.__version__))
    CompiledArtifact(runtime=NAME, settings=settings, outputs=outputs_of(source)).write(folder)
    return Result(
        params={
            "compile/precision": target.precision,
            "compile/int8": quantized,
            "compile/batch_axis": f"1 to {target.largest_batch}, tuned for {target.usual_batch}",
        }
    )
