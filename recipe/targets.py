"""Targets: a runtime on a kind of device, as a recipe asks for it.

In a recipe a target is its name (`onnxruntime-cpu`) or its name with settings
(`{kind: openvino-cpu, precision: bf16}`). The work itself is in `tasks/compile/KIND.py`, found by
the kind with `_` for `-`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from .strict import Strict


class OnnxRuntimeCpu(Strict):
    """ONNX Runtime's CPU execution provider."""

    kind: Literal["onnxruntime-cpu"] = Field(description="ONNX Runtime on the processor.")
    graph_level: Literal["disabled", "basic", "extended", "all"] = Field(
        "all", description="How far ONNX Runtime rewrites the graph."
    )
    arena: bool = Field(True, description="Keep freed memory for the next call.")

    @property
    def name(self) -> str:
        changed = [] if self.graph_level == "all" else [self.graph_level]
        return "-".join([self.kind, *changed, *([] if self.arena else ["noarena"])])


class OpenVinoCpu(Strict):
    """OpenVINO's CPU plugin."""

    kind: Literal["openvino-cpu"] = Field(description="OpenVINO on the processor.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Precision of what is not quantized; bf16 needs a processor that has it.",
    )

    @property
    def name(self) -> str:
        return self.kind if self.precision == "fp32" else f"{self.kind}-{self.precision}"


def _from_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyTarget = OnnxRuntimeCpu | OpenVinoCpu
Target = Annotated[
    Annotated[AnyTarget, Field(discriminator="kind")],
    BeforeValidator(_from_name, json_schema_input_type=str | AnyTarget),
]


def target_kinds() -> tuple[str, ...]:
    """The kinds of all targets, in the order of `AnyTarget`."""
    return tuple(
        str(get_args(cls.model_fields["kind"].annotation)[0]) for cls in get_args(AnyTarget)
    )


def all_targets() -> tuple[AnyTarget, ...]:
    """Each target with its default settings."""
    return tuple(
        cls.model_validate({"kind": kind})
        for cls, kind in zip(get_args(AnyTarget), target_kinds(), strict=True)
    )
