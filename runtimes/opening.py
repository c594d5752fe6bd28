"""Which runtime opens an artifact, and in which process."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from .child_process import ChildProcess
from .compiled_artifact import CompiledArtifact
from .errors import RuntimeFailed, RuntimeMissing
from .predict import LoadOptions, Predict

#: Each is a file in this room. An artifact can name no other: its settings are not trusted.
RUNTIMES = (
    "executorch",
    "imported",
    "inductor",
    "litert",
    "onnxruntime",
    "openvino",
    "tensorflow",
    "tensorrt",
    "xla",
)


class Runtime(Protocol):
    """What a file `NAME_runtime.py` contains.

    Attributes:
        NAME: Its name in artifacts.
        LIBRARIES: The modules that `load` imports besides numpy, each with its distribution.
        ENVIRONMENT: The requirements file (`isolated/NAME.txt`) of its isolated environment, if
            its libraries can't be installed beside Hone; else None.
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802
    @property
    def LIBRARIES(self) -> Mapping[str, str]: ...  # noqa: N802
    @property
    def ENVIRONMENT(self) -> str | None: ...  # noqa: N802

    def load(self, folder: Path, options: LoadOptions) -> Predict: ...


def runtime_module(name: str) -> str:
    """Import path of a runtime's file.

    Raises:
        RuntimeFailed: There is no such runtime.
    """
    if name not in RUNTIMES:
        raise RuntimeFailed(f"there is no runtime {name!r}; there are: {', '.join(RUNTIMES)}")
    return f"{__package__}.{name}_runtime"


def runtime(name: str) -> Runtime:
    """A runtime, by its name in artifacts. Its library is not imported."""
    return cast(Runtime, importlib.import_module(runtime_module(name)))


def is_importable(found: Runtime) -> bool:
    """Whether a runtime's libraries are installed in this environment."""
    return not _missing(found)


def _missing(found: Runtime) -> list[str]:
    return [module for module in found.LIBRARIES if importlib.util.find_spec(module) is None]


def open_artifact(
    folder: Path, options: LoadOptions, note: Callable[[str], None] = lambda _: None
) -> Predict:
    """Open an artifact: in this process if the runtime can be imported here, else in a child
    process in its isolated environment.

    Args:
        folder: The artifact.
        options: `threads`.
        note: Called with a message if creating an environment takes a while.

    Raises:
        RuntimeMissing: It can't be imported here, and has no environment, or creating it failed.
        RuntimeFailed: The runtime refuses the artifact.
    """
    found = runtime(CompiledArtifact.read(folder).runtime)
    missing = _missing(found)
    if not missing:
        return found.load(folder, options)
    if found.ENVIRONMENT is None:
        raise RuntimeMissing(
            f"{' and '.join(missing)}: not installed, and the model needs it",
            where=str(folder),
            do=f"pip install {' '.join(found.LIBRARIES[module] for module in missing)}",
        )
    from .isolated.environment import EnvironmentFailed, make_environment, requirement

    try:
        environment = make_environment(found.ENVIRONMENT, note)
    except EnvironmentFailed as failed:
        wanted = [requirement(found.ENVIRONMENT, d) for d in found.LIBRARIES.values()]
        raise RuntimeMissing(
            f"{' and '.join(missing)}: not installed, and {failed.what}",
            where=str(folder),
            do=f"pip install {' '.join(wanted)}",
        ) from failed
    process = ChildProcess(
        f"{runtime_module(found.NAME)}:load", folder, options, python=environment.interpreter
    )
    try:
        process.wait_loaded()
    except RuntimeFailed:
        process.close()
        raise
    return process.predict
