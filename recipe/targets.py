"""Targets: a runtime on a kind of device, as specified in a recipe.

In a recipe a target is its name (`onnxruntime-cpu`) or its name with settings
(`{kind: openvino-cpu, precision: bf16}`); a setting that is a list is tried with each of its values
(`{kind: openvino-cpu, precision: [fp32, bf16]}` is two targets). The work itself is in
`tasks/compile/KIND.py`, with `_` for `-`, or in a module of the user.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from .strict import IMPORT, ModulePath, Strict, mistake, short_name


class _Target(Strict):
    """Facts about a target.

    `takes` says what it compiles: the exported ONNX graph, or the torch module, which it exports
    and quantizes itself. `environment` names its isolated environment, if it needs one. `native`:
    its artifact contains code for the kind of processor that it was compiled on. `runtime` is the
    distribution that opens its artifact, `needs` what a machine must have, in a few words, and
    `packages` what else must be installed where its champion is served.
    """

    takes: ClassVar[Literal["graph", "module"]] = "graph"
    environment: ClassVar[str | None] = None
    gpu: ClassVar[bool] = False
    native: ClassVar[bool] = False
    runtime: ClassVar[str]
    needs: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    @property
    def calls_user_code(self) -> bool:
        """Whether it calls the recipe's factory of the model."""
        return self.takes == "module"

    @property
    def loader_options(self) -> dict[str, str]:
        """What opens its artifact needs to know besides the artifact."""
        return {}

    @property
    def fixed_batch(self) -> bool:
        """Whether it compiles a program for each batch size of the benchmark."""
        return self.takes == "module"

    @property
    def rounding_db(self) -> float:
        """How near rounding leaves the outputs of an uncompressed model to the trained one's (dB).

        60 dB are a relative error of 1e-3, a hundred times that of single precision. TF32 and the
        half precisions, which round at 2^-11 to 2^-9, leave 30 dB after many layers.
        """
        single = getattr(self, "precision", "fp32") == "fp32" and not self.gpu
        return 60.0 if single else 30.0

    @property
    def name(self) -> str:
        """The kind, and each setting that is not the default."""
        fields = type(self).model_fields
        said = [
            _short(name, getattr(self, name))
            for name, info in fields.items()
            if name != "kind" and getattr(self, name) != info.default
        ]
        return "-".join([str(getattr(self, "kind")), *said])  # noqa: B009


def _short(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name.replace("_", "") if value else "no" + name.replace("_", "")
    return str(value) if isinstance(value, str) else f"{name.replace('_', '')}{value}"


_THREADS: Any = Field(
    None, ge=1, description="Threads of this target (a count); none: benchmark.threads."
)


class _AnyBatch(_Target):
    """A target that compiles one program for any batch size, or one per batch size."""

    batch: Literal["dynamic", "fixed"] = Field(
        "dynamic",
        description="dynamic: one program for any batch size. fixed: one for each size of "
        "benchmark.batch_sizes; a batch goes through the largest that fits.",
    )

    @property
    def fixed_batch(self) -> bool:
        return self.batch == "fixed"


class OnnxRuntimeCpu(_AnyBatch):
    """ONNX Runtime's CPU execution provider."""

    runtime: ClassVar[str] = "onnxruntime"
    needs: ClassVar[str] = "onnxruntime"
    kind: Literal["onnxruntime-cpu"] = Field(description="ONNX Runtime on the processor.")
    graph_level: Literal["disabled", "basic", "extended", "all"] = Field(
        "all", description="Graph optimization level."
    )
    arena: bool = Field(True, description="Use a memory arena, which keeps freed memory.")
    denormals: bool = Field(
        True, description="Compute with denormal numbers; false: flush them to 0."
    )
    threads: int | None = _THREADS


class OnnxRuntimeCuda(_Target):
    """ONNX Runtime's CUDA execution provider."""

    runtime: ClassVar[str] = "onnxruntime"
    needs: ClassVar[str] = "an NVIDIA GPU, onnxruntime-gpu"
    gpu: ClassVar[bool] = True
    kind: Literal["onnxruntime-cuda"] = Field(description="ONNX Runtime on an NVIDIA GPU.")
    cuda_graphs: bool = Field(False, description="Record a CUDA graph once and replay it.")
    tf32: bool = Field(True, description="Allow TF32 in matrix products.")


class OnnxRuntimeTensorRt(_Target):
    """ONNX Runtime's TensorRT execution provider."""

    runtime: ClassVar[str] = "onnxruntime"
    needs: ClassVar[str] = "an NVIDIA GPU, onnxruntime-gpu, tensorrt"
    gpu: ClassVar[bool] = True
    kind: Literal["onnxruntime-tensorrt"] = Field(description="TensorRT within ONNX Runtime.")
    precision: Literal["fp32", "fp16"] = Field(
        "fp32", description="Precision of non-quantized layers."
    )


class TensorRt(_Target):
    """TensorRT, through its builder's Python interface."""

    runtime: ClassVar[str] = "tensorrt"
    needs: ClassVar[str] = "an NVIDIA GPU, tensorrt"
    gpu: ClassVar[bool] = True
    kind: Literal["tensorrt"] = Field(description="A TensorRT engine.")
    precision: Literal["fp32", "fp16", "fp8"] = Field(
        "fp32", description="Precision of non-quantized layers, used where it is faster."
    )
    largest_batch: int = Field(
        64, ge=1, description="Largest batch of the optimization profile (samples)."
    )
    usual_batch: int = Field(1, ge=1, description="Batch that the profile is tuned for (samples).")
    workspace_mb: int = Field(2048, ge=16, description="Workspace memory (MB).")
    optimization_level: int = Field(3, ge=0, le=5, description="Builder optimization level.")


class _OpenVino(_AnyBatch):
    runtime: ClassVar[str] = "openvino"
    needs: ClassVar[str] = "openvino"
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Precision of non-quantized layers; the device must support it.",
    )
    streams: int = Field(1, ge=1, description="Parallel inference streams (a count).")


class OpenVinoCpu(_OpenVino):
    """OpenVINO's CPU plugin."""

    kind: Literal["openvino-cpu"] = Field(description="OpenVINO on the processor.")
    threads: int | None = _THREADS


class OpenVinoGpu(_OpenVino):
    """OpenVINO's GPU plugin (Intel)."""

    runtime: ClassVar[str] = "openvino"
    needs: ClassVar[str] = "an Intel GPU, openvino"
    kind: Literal["openvino-gpu"] = Field(description="OpenVINO on an Intel GPU.")


class OpenVinoNpu(_OpenVino):
    """OpenVINO's NPU plugin (Intel)."""

    runtime: ClassVar[str] = "openvino"
    needs: ClassVar[str] = "an Intel NPU, openvino"
    kind: Literal["openvino-npu"] = Field(description="OpenVINO on an Intel NPU.")


class InductorCpu(_Target):
    """torch.compile's compiler, ahead of time (AOTInductor)."""

    runtime: ClassVar[str] = "torch"
    needs: ClassVar[str] = "torch and a C++ compiler"
    native: ClassVar[bool] = True
    takes: ClassVar[Literal["graph", "module"]] = "module"
    kind: Literal["inductor-cpu"] = Field(description="AOTInductor on the processor.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Precision of weights and computation."
    )
    max_autotune: bool = Field(False, description="Time several kernels and use the fastest.")
    threads: int | None = _THREADS


class InductorCuda(_Target):
    """AOTInductor on an NVIDIA GPU."""

    runtime: ClassVar[str] = "torch"
    needs: ClassVar[str] = "an NVIDIA GPU, torch and a C++ compiler"
    takes: ClassVar[Literal["graph", "module"]] = "module"
    gpu: ClassVar[bool] = True
    kind: Literal["inductor-cuda"] = Field(description="AOTInductor on an NVIDIA GPU.")
    precision: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="Precision of weights.")
    max_autotune: bool = Field(True, description="Time several kernels and use the fastest.")
    cuda_graphs: bool = Field(True, description="Record a CUDA graph once and replay it.")


class LiteRt(_Target):
    """LiteRT, TensorFlow Lite's successor, for phones and small devices."""

    runtime: ClassVar[str] = "ai-edge-litert"
    needs: ClassVar[str] = "an environment of its own"
    takes: ClassVar[Literal["graph", "module"]] = "module"
    environment: ClassVar[str | None] = "jax"
    kind: Literal["litert"] = Field(description="A .tflite file, run by LiteRT with XNNPACK.")
    threads: int | None = _THREADS


class ExecuTorch(_Target):
    """ExecuTorch with XNNPACK, for phones and small devices."""

    runtime: ClassVar[str] = "executorch"
    needs: ClassVar[str] = "an environment of its own"
    takes: ClassVar[Literal["graph", "module"]] = "module"
    environment: ClassVar[str | None] = "executorch"
    kind: Literal["executorch"] = Field(description="A .pte file, run by ExecuTorch and XNNPACK.")


class Xla(_Target):
    """StableHLO for XLA: CPUs, GPUs and TPUs."""

    runtime: ClassVar[str] = "jax"
    needs: ClassVar[str] = "an environment of its own"
    takes: ClassVar[Literal["graph", "module"]] = "module"
    environment: ClassVar[str | None] = "jax"
    kind: Literal["xla"] = Field(description="A StableHLO program, compiled by XLA.")


class TensorFlow(_Target):
    """A SavedModel for TensorFlow and TensorFlow Serving."""

    runtime: ClassVar[str] = "tensorflow_cpu"
    needs: ClassVar[str] = "an environment of its own"
    takes: ClassVar[Literal["graph", "module"]] = "module"
    environment: ClassVar[str | None] = "tensorflow"
    kind: Literal["tensorflow"] = Field(description="A SavedModel, compiled by XLA within.")


def _as_tuple(value: Any) -> Any:
    """A tuple for a list that came from JSON, which strict validation would refuse."""
    return tuple(value) if isinstance(value, list) else value


class ImportedTarget(Strict):
    """Your own target, by its import path. What other targets define in their class are fields.

    Its code is not packaged with a champion: where one is served, the target's package must be
    installed, and allowed by `HONE_ALLOWED_PREFIXES`.
    """

    environment: ClassVar[str | None] = None
    calls_user_code: ClassVar[bool] = True
    rounding_db: ClassVar[float] = 30.0  # what it computes in is not known

    kind: Literal["import"] = Field(description="This target is your own.")
    factory: ModulePath = Field(
        description="Import path 'module' or 'module:name' of what has availability(target), "
        "compile_graph(work, **args) and load(folder, options).",
    )
    takes: Literal["graph", "module"] = Field(
        description="From what it compiles: the exported ONNX graph, or the torch module."
    )
    name: str = Field(
        default_factory=lambda given: short_name(str(given.get("factory", ""))),
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="What it is called in tables and in MLflow; none: the last part of its path.",
    )
    args: dict[str, Any] = Field({}, description="Keyword arguments of compile_graph.")
    gpu: bool = Field(False, description="It needs a GPU.")
    native: bool = Field(
        False, description="Its artifact holds code for the kind of processor it was compiled on."
    )
    fixed_batch: bool = Field(
        False, description="It compiles a program for each batch size of the benchmark."
    )
    packages: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        (), description="Distributions to install where its champion is served, yours among them."
    )

    @property
    def loader_options(self) -> dict[str, str]:
        """What opens its artifact needs to know besides the artifact."""
        return {"factory": self.factory}


def _from_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


_BuiltIn = (
    OnnxRuntimeCpu | OnnxRuntimeCuda | OnnxRuntimeTensorRt | TensorRt | OpenVinoCpu | OpenVinoGpu
    | OpenVinoNpu | InductorCpu | InductorCuda | LiteRt | ExecuTorch
    | Xla | TensorFlow
)  # fmt: skip
AnyTarget = _BuiltIn | ImportedTarget
Target = Annotated[
    Annotated[AnyTarget, Field(discriminator="kind")],
    BeforeValidator(_from_name, json_schema_input_type=str | AnyTarget),
]


_MOST_TRIED = 100


def expanded(targets: Any) -> Any:
    """Each target once for every combination of the settings that are lists."""
    if not isinstance(targets, list | tuple):
        return targets
    found: list[Any] = []
    for target in targets:
        listed = (
            {k: v for k, v in target.items() if isinstance(v, list)}
            if isinstance(target, dict) and target.get("kind") != IMPORT
            else {}
        )
        if not listed:
            found.append(target)
            continue
        if math.prod(map(len, listed.values())) > _MOST_TRIED:
            raise mistake(
                "targets", "the lists give more than {most} combinations", most=_MOST_TRIED
            )
        found += [
            {**target, **dict(zip(listed, values, strict=True))}
            for values in itertools.product(*listed.values())
        ]
    return tuple(found)


def target_class(kind: str) -> type[_Target]:
    """The class of a target, Hone's or the user's, by its kind."""
    found: type[_Target] = next(cls for cls in get_args(AnyTarget) if _kind_of(cls) == kind)
    return found


def _kind_of(cls: Any) -> str:
    return str(get_args(cls.model_fields["kind"].annotation)[0])


def target_kinds() -> tuple[str, ...]:
    """The kinds of all of Hone's targets, in the order of `AnyTarget`."""
    return tuple(_kind_of(cls) for cls in get_args(_BuiltIn))


def all_targets() -> tuple[_BuiltIn, ...]:
    """Each of Hone's targets with its default settings."""
    return tuple(
        cls.model_validate({"kind": kind})
        for cls, kind in zip(get_args(_BuiltIn), target_kinds(), strict=True)
    )
