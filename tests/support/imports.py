"""What a process imported, from its output under PYTHONPROFILEIMPORTTIME=1."""

from __future__ import annotations

import re

#: What only steps use. torch alone takes two seconds.
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "matplotlib")
_LINE = re.compile(r"^import time:.*\|\s+(\S+)\n", re.MULTILINE)


def imported_in(stderr: str) -> set[str]:
    """The modules that were imported."""
    return set(_LINE.findall(stderr))


def without_imports(stderr: str) -> str:
    """The rest of the output."""
    return _LINE.sub("", stderr).replace(
        "import time: self [us] | cumulative | imported package\n", ""
    )
