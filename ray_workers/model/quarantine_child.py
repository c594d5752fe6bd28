"""A stranger's model file in a process with nothing to lose, the child's side.

It gives up its privileges, imports the library, opens the file as the worker would, and sends one
line of JSON. `quarantine.py` is the parent's side. Of Hone, only `confinement.py` is imported.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .confinement import confine, limit_memory

_LONGEST = 4000
#: What libraries read of the system when they are imported.
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/null",
    "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys",
    "/sys/devices/system", "/sys/fs/cgroup", "/usr/share/zoneinfo", "/etc/localtime",
)  # fmt: skip


def main() -> None:
    """Open the file that the first argument describes; send the answer on a descriptor."""
    said = json.loads(sys.argv[1])
    answer: dict[str, Any] = {"protections": []}
    try:
        _open(said, answer)
    except BaseException as error:
        answer |= {"error": type(error).__name__, "text": str(error)[:_LONGEST]}
    with open(int(said["answer"]), "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
        stream.flush()
    os._exit(0)  # nothing that the file may have left behind runs


def _open(said: dict[str, Any], answer: dict[str, Any]) -> None:
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *said["paths"]} - {"/"}
    sys.path.extend(said["paths"])
    home = Path(said["home"])
    readable = map(Path, (*prefixes, *_SYSTEM, said["folder"], *said["beside"]))
    answer["protections"] = confine(
        readable, home, said["user"], said["seconds"], said["largest_file"]
    )
    modules, function = _OPENERS[said["kind"]]
    for module in (*modules, *said["modules"]):
        importlib.import_module(module)
    if limit_memory(said["memory"]):
        answer["protections"].append("memory")
    answer |= function(Path(said["path"]), home) or {}


def _open_program(path: Path, _home: Path) -> None:
    import torch

    logged: list[BaseException] = []

    class Listener(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.exc_info and record.exc_info[1] is not None:
                logged.append(record.exc_info[1])
            return False

    logging.getLogger("torch.export").addFilter(Listener())  # it tells there what is wrong
    torch.set_num_threads(1)
    try:
        torch.export.unflatten(torch.export.load(path))
    except Exception as error:
        raise (logged or [error])[-1] from None


def _open_keras(path: Path, home: Path) -> None:
    """Weights in the order of the model's variables, so that the worker needs no HDF5."""
    import keras
    from safetensors.torch import save_file

    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    tensors = {
        str(index): variable.value.detach().cpu().contiguous()
        for index, variable in enumerate(model.variables)
    }
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, home / "weights")


def _open_onnx(path: Path, _home: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _open_transformers(path: Path, _home: Path) -> dict[str, Any]:
    """Builds what a configuration describes, without memory for its parameters."""
    import inspect

    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(
        path.parent, local_files_only=True, trust_remote_code=False
    )
    kind: Any = getattr(transformers, str((config.architectures or [None])[0]), None)
    known = inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        return {}  # the worker says so
    with torch.device("meta"):
        model = kind(config)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


_OPENERS: dict[str, tuple[tuple[str, ...], Callable[[Path, Path], dict[str, Any] | None]]] = {
    "keras": (("torch", "keras", "h5py", "safetensors.torch"), _open_keras),
    "onnx": (("onnxruntime",), _open_onnx),
    "program": (("torch", "torch.export"), _open_program),
    "transformers": (("torch", "transformers", "transformers.modeling_utils"), _open_transformers),
}


if __name__ == "__main__":
    main()
