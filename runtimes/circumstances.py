"""What a model's outputs depend on besides its files: the processor and the runtime's version."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from dataclasses import dataclass

from .isolated.environment import version_of
from .opening import Runtime, is_importable
from .processor_features import features_here

#: Where ONNX Runtime's other builds are installed instead.
BUILDS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")}


@dataclass(frozen=True)
class Circumstances:
    """Under which outputs were measured.

    Attributes:
        architecture: As `platform.machine()` names it (`x86_64`, `aarch64`).
        features: The processor's instruction sets that select kernels.
        versions: Of numpy and the runtime's libraries.
        threads: Of the runtime; told, never compared.
    """

    architecture: str
    features: tuple[str, ...]
    versions: dict[str, str]
    threads: int

    def changed_to(self, here: Circumstances) -> list[str]:
        """What differs here, in words; threads are no difference."""
        said = []
        if here.architecture != self.architecture:
            said.append(
                f"this processor is {here.architecture}, and {self.architecture} was measured"
            )
        elif lacking := sorted(set(self.features) - set(here.features)):
            said.append(f"this processor lacks {', '.join(lacking)}, which the measured one has")
        elif more := sorted(set(here.features) - set(self.features)):
            said.append(f"this processor has {', '.join(more)}, which the measured one lacks")
        for library, version in sorted(self.versions.items()):
            if (found := here.versions.get(library, "absent")) != version:
                said.append(f"{library} is {found} here, and {version} was measured")
        return said


def circumstances(runtime: Runtime, threads: int) -> Circumstances:
    """Those of a runtime on this machine: in this environment, or in its isolated one."""
    return Circumstances(
        platform.machine(), features_here(), _versions(runtime), threads
    )  # fmt: skip


@functools.cache
def installed(distribution: str) -> tuple[str, str] | None:
    """The build of a distribution that is installed, and its version without its local part."""
    for build in BUILDS.get(distribution, (distribution,)):
        try:
            version = importlib.metadata.version(build)
        except importlib.metadata.PackageNotFoundError:
            continue
        return build, version.partition("+")[0]  # +cpu is another index's
    return None


def _versions(runtime: Runtime) -> dict[str, str]:
    libraries = {"numpy": "numpy", **runtime.LIBRARIES}
    if runtime.ENVIRONMENT is None or is_importable(runtime):
        found = {name: installed(name) for name in libraries.values()}
        return {name: pair[1] for name, pair in found.items() if pair is not None}
    return {name: version_of(runtime.ENVIRONMENT, name) for name in libraries.values()}
