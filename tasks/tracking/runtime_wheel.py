"""The wheel `hone-runtimes`: the code that opens a model, and nothing else of Hone. It is packaged
with every logged model, which therefore needs neither Hone nor torch where it is served.

    python -m prefect_hone.tasks.tracking.runtime_wheel FOLDER

It contains `prefect_hone/runtimes` as a namespace package, without `prefect_hone/__init__.py`, so
where Hone itself is installed, Hone's files are imported. It is written without a build tool or
network, and the same files always give the same bytes.
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from ... import runtimes as room
from ..._version import __version__
from ...runtimes.circumstances import installed
from ...runtimes.isolated.environment import requirement
from ...runtimes.opening import RUNTIMES, runtime

_NAME = "hone_runtimes"
_HONE = "prefect-hone"
_ROOM = room.__name__.replace(".", "/")
_INFO = f"{_NAME}-{__version__}.dist-info"
_TAG = "py3-none-any"


def build_wheel(folder: Path) -> Path:
    """Write the wheel.

    Its build tag is a digest of its content: MLflow caches environments by the names of their
    requirements, and so never reuses one with another content.

    Args:
        folder: Where to.

    Returns:
        The file.
    """
    files = {f"{_INFO}/METADATA": _metadata().encode(), f"{_INFO}/licenses/LICENSE": _license()}
    home = Path(room.__file__).parent
    for path in home.rglob("*"):
        if path.suffix in (".py", ".txt"):
            files[f"{_ROOM}/{path.relative_to(home).as_posix()}"] = path.read_bytes()
    content = "".join(f"{name} {_digest(files[name])}\n" for name in sorted(files))
    build = "0" + hashlib.sha256(content.encode()).hexdigest()[:10]
    files[f"{_INFO}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {_HONE} {__version__}\nRoot-Is-Purelib: true\n"
        f"Tag: {_TAG}\nBuild: {build}\n"
    ).encode()
    lines = [f"{name},sha256={_digest(files[name])},{len(files[name])}" for name in sorted(files)]
    record = f"{_INFO}/RECORD"
    files[record] = "\n".join([*lines, f"{record},,"]).encode() + b"\n"
    wheel = folder / f"{_NAME}-{__version__}-{build}-{_TAG}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    last = (f"{_INFO}/",)  # so that an installer finds the metadata at the end
    with zipfile.ZipFile(wheel, "w") as archive:  # stored: zlib's versions pack differently
        for name in sorted(files, key=lambda name: (name.startswith(last), name)):
            entry = zipfile.ZipInfo(name)  # of 1980
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name])
    return wheel


def requirements_of(name: str) -> list[str]:
    """A model's requirements besides the wheel: numpy and the runtime's libraries, as installed.

    Args:
        name: Of the runtime.
    """
    found = runtime(name)
    if found.ENVIRONMENT is not None:
        libraries = ["numpy", *found.LIBRARIES.values()]
        return [requirement(found.ENVIRONMENT, library) for library in libraries]
    return [_installed(library) for library in ("numpy", *found.LIBRARIES.values())]


def _installed(distribution: str) -> str:
    found = installed(distribution)
    return distribution if found is None else "==".join(found)


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: hone-runtimes",
        f"Version: {__version__}",
        "Summary: Opens the models that prefect-hone registers; a part of it.",
        "License: Apache-2.0",
        "Requires-Python: >=3.11",
        f"Requires-Dist: {_compatible('numpy')}",
    ]
    for name in RUNTIMES:
        found = runtime(name)
        lines.append(f"Provides-Extra: {name}")
        for library in found.LIBRARIES.values():
            wanted = (
                _compatible(library)
                if found.ENVIRONMENT is None
                else requirement(found.ENVIRONMENT, library)
            )
            lines.append(f'Requires-Dist: {wanted}; extra == "{name}"')
    return "\n".join(lines) + "\n"


def _compatible(distribution: str) -> str:
    """A distribution with the versions that Hone itself accepts."""
    for line in importlib.metadata.requires(_HONE) or []:
        wanted = Requirement(line)
        if wanted.name == distribution:
            return f"{distribution}{wanted.specifier}"
    return distribution


def _license() -> bytes:
    text = importlib.metadata.distribution(_HONE).read_text("licenses/LICENSE")
    beside = Path(__file__).parents[2] / "LICENSE"  # of a checkout
    if text is None and beside.is_file():
        text = beside.read_text(encoding="utf-8")
    return (text or "Apache-2.0\n").encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.stdout.write(f"{build_wheel(Path(sys.argv[1]))}\n")
