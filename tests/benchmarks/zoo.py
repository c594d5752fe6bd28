"""How far each architecture of the zoo goes, and how far the same goes by hand.

    python tests/benchmarks/zoo.py [NAME ...] [--stages graph int8 ...] [--rows FILE]
    python tests/benchmarks/zoo.py --write          # docs/zoo.md from the rows

Each architecture is a child process with a time limit for each stage, forked from one that has the
imports done. A stage adds a line of JSON to the file of rows; what is there is not done again.
Architectures of timm and torchvision need these two; without them they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import importlib.util
import json
import logging
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = HERE / "zoo_rows.jsonl"
MODELS = HERE / "zoo_models"
sys.path.insert(0, str(MODELS))
#: In this order within a child: what forks before what starts threads.
STAGES = ("train", "graph", "int8", "prune", "schemes", "retrain")
#: Of one stage (s), so long because the machine may be busy; and of a child's processor time (s).
LIMIT = 1200.0
PROCESSOR = 400


def run(names: list[str], stages: list[str], rows: Path, limit: float = LIMIT) -> None:
    """Add the rows that are missing.

    Args:
        names: Of the architectures.
        stages: Which to run.
        rows: File of JSON lines.
        limit: Of a stage (s).
    """
    import_all()
    done = {(row["name"], row["stage"]) for row in read(rows)}
    for name in names:
        left = [stage for stage in stages if (name, stage) not in done]
        while left:
            for row in _in_child(name, left, limit):
                with rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
                left.remove(row["stage"])


def read(rows: Path) -> list[dict[str, Any]]:
    """All rows of a file; of one that is there twice, the later."""
    lines = rows.read_text().splitlines() if rows.exists() else []
    found = {(row["name"], row["stage"]): row for row in map(json.loads, lines)}
    return list(found.values())


def import_all() -> None:
    """Whatever stages need, imported and warm, without starting a thread."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import nncf  # noqa: F401
    import openvino  # noqa: F401
    import torch
    import torch.distributed.tensor
    import torch_pruning  # noqa: F401
    import zoo_by_hand
    import zoo_models
    import zoo_stages  # noqa: F401

    torch.set_num_threads(1)
    _import_steps()
    _keep_registry()
    zoo_models.import_libraries()
    with tempfile.TemporaryDirectory(prefix="zoo-warm-") as folder:
        zoo_by_hand.exported("tabular", Path(folder))


def _import_steps() -> None:
    """Hone's modules, all of them: sources that change during a run are not mixed with others."""
    import prefect_hone

    for room in ("recipe", "runtimes", "ray_workers", "tasks"):
        home = Path(prefect_hone.__file__).parent / room
        for module in pkgutil.walk_packages([str(home)], f"prefect_hone.{room}."):
            if not module.name.endswith(("__main__", "quarantine_child", "runtimes.child")):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module.name)


def _keep_registry() -> None:
    """torch's table of ONNX functions, made once instead of for every export (1.4 s)."""
    from torch.onnx._internal.exporter import _registration

    made = _registration.ONNXRegistry.from_torchlib()
    _registration.ONNXRegistry.from_torchlib = classmethod(lambda cls, *_, **__: copy.copy(made))


def _in_child(name: str, stages: list[str], limit: float) -> Iterator[dict[str, Any]]:
    """Rows of the stages, up to the one that the child doesn't survive."""
    reads, writes = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reads)
        os.setpgid(0, 0)  # not a session of its own: it would have its own share of the processor
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))
        with contextlib.suppress(BaseException):
            _child(name, stages, writes)
        os._exit(0)
    os.close(writes)
    todo, text, started = list(stages), b"", time.perf_counter()
    try:
        while todo:
            ready, _, _ = select.select([reads], [], [], limit)
            said = os.read(reads, 1 << 20) if ready else b""
            text += said
            *lines, text = text.split(b"\n")
            for line in lines:
                todo.pop(0)
                started = time.perf_counter()
                yield json.loads(line)
            if not said:
                what = (
                    "the process died, or used its processor time"
                    if ready
                    else f"not finished within {limit:.0f} s"
                )
                seconds = time.perf_counter() - started
                yield {"name": name, "stage": todo[0], "stopped": what, "seconds": seconds}
                return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reads)


def _child(name: str, stages: list[str], pipe: int) -> None:
    import zoo_stages

    with tempfile.TemporaryDirectory(prefix="zoo-") as folder, Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
        bench = zoo_stages.Bench(name, Path(folder))
        for stage in stages:
            started = time.perf_counter()
            row: dict[str, Any] = {"name": name, "stage": stage}
            try:
                row |= getattr(bench, stage)()
            except Exception:
                row["stopped"] = traceback.format_exc()[-600:]
            row["seconds"] = round(time.perf_counter() - started, 1)
            os.write(pipe, json.dumps(row).encode() + b"\n")


def installed() -> list[str]:
    """Names of the architectures whose libraries are here, each library's spread evenly."""
    import zoo_models

    kinds: list[tuple[str, ...]] = []
    for family, own in zoo_models.FAMILIES.items():
        needs = () if family == "written by hand" else (family,)
        needs = ("timm", "torchvision") if family == "timm" else needs
        if all(importlib.util.find_spec(need) for need in needs):
            kinds.append(own)
    ranked = [(i / len(own), name) for own in kinds for i, name in enumerate(own)]
    return [name for _, name in sorted(ranked)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--write", action="store_true", help="write docs/zoo.md and end")
    said = parser.parse_args()
    if said.write:
        import zoo_table

        zoo_table.write(read(said.rows))
        return
    run(said.names or installed(), [s for s in STAGES if s in said.stages], said.rows)


if __name__ == "__main__":
    main()
