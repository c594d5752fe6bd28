"""The steps that are computed in workers and kept: what each is called, runs, and depends on.

A step's cache key is the digest of its spec, its input artifacts, the user's code, the source of
its function and the versions of the libraries that matter to it. Nothing here imports more than
the standard library and pydantic, so that `hone plan` answers at once.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..recipe.targets import target_class
from .environments import version_of

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Step:
    """A kind of step.

    Attributes:
        name: What people call it.
        function: Import path of the function of a `Workspace` that does it.
        sources: Files and folders of this package whose content is part of the cache key.
        libraries: Distributions whose version is part of the cache key.
        runs_user_code: Whether it calls the recipe's factories, so that their code is part of
            the cache key.
        retries: Times it is tried again after its worker died.
    """

    name: str
    function: str
    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    runs_user_code: bool = False
    retries: int = 0


CHECK = Step(
    "check",
    "prefect_hone.tasks.check:check",
    ("tasks/check.py", "ray_workers/splits.py", "ray_workers/training/losses.py"),
    ("torch",),
    runs_user_code=True,
    retries=1,
)
TRAIN = Step(
    "train",
    "prefect_hone.tasks.train:train",
    (
        "tasks/train.py",
        "ray_workers/training",
        "ray_workers/seed.py",
        "ray_workers/splits.py",
        "ray_workers/metrics",
    ),
    ("torch",),
    runs_user_code=True,
)
REFERENCE = Step(
    "reference",
    "prefect_hone.tasks.validate.reference:reference",
    ("tasks/validate", "ray_workers/module.py", "ray_workers/splits.py", "ray_workers/metrics"),
    ("torch",),
    runs_user_code=True,
    retries=1,
)
EXPORT = Step(
    "export",
    "prefect_hone.tasks.export:export",
    ("tasks/export.py", "ray_workers/module.py", "tasks/graph.py", "ray_workers/splits.py"),
    ("torch", "onnx", "onnxscript"),
    runs_user_code=True,
    retries=1,
)
VALIDATE = Step(
    "validate",
    "prefect_hone.tasks.validate.validate:validate",
    ("tasks/validate", "ray_workers/module.py", "ray_workers/splits.py", "ray_workers/metrics"),
    ("torch",),
    runs_user_code=True,
    retries=1,
)
BENCHMARK = Step(
    "benchmark",
    "prefect_hone.tasks.benchmark:benchmark",
    (
        "tasks/benchmark.py",
        "tasks/timing.py",
        "ray_workers/runtime_process.py",
        "ray_workers/module.py",
    ),
    ("torch",),
    runs_user_code=True,
    retries=1,
)


_ONNX = ("tasks/graph.py",)
#: What each pass needs beside its own file; those on a module may train.
_TRAINED = (
    "tasks/compress/taught.py", "tasks/compress/account.py", "ray_workers/module.py",
    "ray_workers/training", "ray_workers/seed.py", "ray_workers/splits.py", "ray_workers/metrics",
)  # fmt: skip
_PASSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prune": (("tasks/compress/widths.py", *_TRAINED), ("torch", "torch-pruning")),
    "distill": (_TRAINED, ("torch",)),
    "low-rank": (_TRAINED, ("torch",)),
    "qat": (_TRAINED, ("torch", "torchao")),
    "quantize": (("tasks/compress/schemes", *_ONNX), ("onnx", "onnxruntime", "nncf")),
}  # any other pass works on the graph, with its own file


def compress_step(kind: str, controls_accuracy: bool = False) -> Step:
    """The step of a pass, by its kind.

    Args:
        kind: Of the pass.
        controls_accuracy: Whether it looks at the validation split.
    """
    module = kind.replace("-", "_")
    sources, libraries = _PASSES.get(kind, (_ONNX, ("onnx", "onnxruntime")))
    return Step(
        "compress",
        f"prefect_hone.tasks.compress.{module}:apply",
        (f"tasks/compress/{module}.py", *sources),
        libraries,
        runs_user_code=sources[-len(_TRAINED) :] == _TRAINED or controls_accuracy,
        retries=1,
    )


def target_module(kind: str) -> str:
    """Module of a target, by its kind: it has `compile_graph`, `load`, `availability`."""
    return f"prefect_hone.tasks.compile.{kind.replace('-', '_')}"


_MODULE = (
    "tasks/compile/program.py", "tasks/export.py", "tasks/graph.py", "ray_workers/module.py",
    "ray_workers/splits.py",
)  # fmt: skip
_FIXED = "tasks/compile/fixed.py"
_EDGE = (*_MODULE, "tasks/compile/edge.py", _FIXED, "tasks/environments")
#: What each family of targets is made of: files beside its own, and libraries.
_TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "onnxruntime": (("tasks/compile/_onnxruntime.py", _FIXED, *_ONNX), ("onnx", "onnxruntime")),
    "openvino": (("tasks/compile/_openvino.py", _FIXED, *_ONNX), ("onnx", "openvino")),
    "tensorrt": (_ONNX, ("onnx", "tensorrt")),
    "inductor": (("tasks/compile/_inductor.py", *_MODULE), ("torch", "torchao")),
    "litert": (("tasks/compile/litert_build.py", *_EDGE), ("torch", "jax:ai-edge-litert")),
    "xla": (("tasks/compile/xla_build.py", "tasks/compile/_jax.py", *_EDGE), ("torch", "jax:jax")),
    "tensorflow": (
        ("tasks/compile/tensorflow_build.py", "tasks/compile/_jax.py", *_EDGE),
        ("torch", "tensorflow:jax", "tensorflow:tensorflow_cpu"),
    ),
    "executorch": (
        ("tasks/compile/executorch_build.py", *_EDGE),
        ("torch", "executorch:executorch"),
    ),
}


def compile_step(kind: str) -> Step:
    """The step that compiles for a target, by the target's kind."""
    module = target_module(kind)
    family = kind.partition("-")[0]
    plain = _MODULE if target_class(kind).takes == "module" else _ONNX
    sources, libraries = _TARGETS.get(family, (plain, (family,)))
    return Step(
        "compile",
        f"{module}:compile_graph",
        (f"tasks/compile/{module.rpartition('.')[2]}.py", *sources),
        libraries,
        runs_user_code=target_class(kind).takes == "module",
        retries=1,
    )


@dataclass(frozen=True)
class UserCode:
    """Identity of the code that a recipe's factories come from.

    Attributes:
        digest: Of the code folder's files and of packages that factories are named in.
    """

    digest: str = ""


@dataclass(frozen=True)
class Call:
    """A step with what it is asked to do.

    Attributes:
        step: The kind of step.
        label: What this one is called (`compile int8@openvino-cpu`).
        spec: What it is asked to do, plain data; part of the cache key.
        candidate: Name of the candidate that it belongs to, None where several share it.
        cpus: CPU cores that its worker reserves.
        gpus: GPUs that its worker reserves.
        timeout: Longest time that it may take (s).
        retries: Times it is tried again after its worker died; None: as its step says.
        settings: Further plain data for it that changes nothing of its result.
        placement: Parts of the spec that change how, not what is computed: the same work with
            another placement goes on from the same checkpoints.
    """

    step: Step
    label: str
    spec: dict[str, Any]
    candidate: str | None = None
    cpus: float = 1
    gpus: float = 0
    timeout: float = 1800
    retries: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    placement: frozenset[str] = frozenset()

    def anywhere(self) -> Call:
        """The same work, without saying where."""
        train = {k: v for k, v in self.spec.get("train", {}).items() if k not in self.placement}
        return replace(self, spec={**self.spec, "train": train})


def cache_key(call: Call, inputs: dict[str, str], code: UserCode) -> str:
    """Digest of all that a step's result depends on.

    Args:
        call: The step and its spec.
        inputs: sha256 of each input artifact.
        code: The user's code.
    """
    step = call.step
    parts = {
        "function": step.function,
        "source": source_digest(step.sources),
        "libraries": {name: library_version(name) for name in step.libraries},
        "spec": call.spec,
        "inputs": inputs,
        "code": code.digest if step.runs_user_code else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def library_version(name: str) -> str:
    """Version of an installed distribution; `none` where it isn't.

    `litert:ai-edge-litert` is a distribution in the environment `litert`.
    """
    environment, colon, distribution = name.partition(":")
    if colon:
        return version_of(environment, distribution)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@functools.cache
def source_digest(places: tuple[str, ...]) -> str:
    """Digest of Python files of this package."""
    digest = hashlib.sha256()
    for place in places:
        root = PACKAGE / place
        found = [*root.rglob("*.py"), *root.rglob("*.txt")]
        for path in [root] if root.is_file() else sorted(found):
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()
