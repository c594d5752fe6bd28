"""The environment of a process that Hone starts: what it needs, and no credentials.

A child that runs only Hone and libraries gets an allow-list of variables. One that calls the user's
code gets all but the keys of stores and clusters, because that code may read any of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .telemetry import OFF

#: Of the operating system, the dynamic linker, Python and certificates.
_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX",
    "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HONE_HOME", "HONE_ENVIRONMENTS", "HONE_ALLOWED_PREFIXES",
    *OFF,
})  # fmt: skip
#: Of compilers, runtimes and accelerators, and of what measures a test run.
_PREFIXES = (
    "LC_", "XDG_", "COV_", "COVERAGE_",
    "CUDA", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ZE_", "ONEAPI_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ORT_", "OV_", "OPENVINO_",
    "TORCH", "PYTORCH_", "TRITON_", "TRT_", "TENSORRT_", "TF_", "XLA_", "JAX_", "TFLITE_",
)  # fmt: skip
#: With these, results can be forged, or code run on a cluster.
_KEYS = frozenset(
    {"HONE_STORE_KEY", "HONE_STORE_KEY_FILE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
)


def minimal(further: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables of this process that a child of ours needs.

    Args:
        further: Prefixes of more variables.
    """
    prefixes = (*_PREFIXES, *further)
    return {
        name: value
        for name, value in os.environ.items()
        if (name in _NAMES or name.startswith(prefixes)) and name not in _KEYS
    }


def empty(name: str) -> None:
    """Empty a variable of this process, for what reads an empty one as one that is not set.

    It is not removed: a thread that copies the environment at that moment, as libraries do for each
    process that they start, would fail with a `KeyError`.
    """
    if name in os.environ:
        os.environ[name] = ""


def without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables without the keys of stores and clusters."""
    return {name: value for name, value in variables.items() if name not in _KEYS}
