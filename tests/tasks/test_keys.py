"""Cache keys: a change of code that a step can run, and only that, makes it be computed again."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import modulefinder
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect_hone.flows.engine.lay_out import lay_out
from prefect_hone.flows.engine.lay_out_measurements import lay_out_benchmark
from prefect_hone.flows.engine.surroundings import Surroundings
from prefect_hone.flows.engine.user_code import identify
from prefect_hone.ray_workers.processor import processor
from prefect_hone.recipe.schema import Recipe
from prefect_hone.recipe.targets import target_kinds
from prefect_hone.tasks import keys
from prefect_hone.tasks.keys import CARRIERS, PACKAGE, UserCode, cache_key, closure, library_version
from prefect_hone.tasks.steps import Call

ROOMS = ("recipe", "runtimes", "ray_workers", "tasks", "flows")
NOTHING = UserCode()


def everything() -> Recipe:
    """A recipe with every kind of pass and every target."""
    control = {"at_most": 0.01}
    quantize = {"kind": "quantize", "scheme": "static-int8"}
    chains = {
        "fp32": [],
        "int8": [quantize],
        "controlled": [{**quantize, "accuracy_control": control}],
        "folded": [{"kind": "fold"}],
        "slim": [{"kind": "prune", "method": "channel", "ratio": 0.5, "recover_epochs": 1}],
        "low": [{"kind": "low-rank", "energy": 0.9}],
        "aware": [{"kind": "qat", "epochs": 1}],
        "own": [
            {"kind": "import", "factory": "mine:sparse", "works_on": "module"},
            {"kind": "import", "factory": "mine:merge", "works_on": "graph"},
        ],
        "taught": [{"kind": "distill", "factory": "mine:student", "epochs": 1}],
    }
    return Recipe.model_validate(
        {
            "name": "all",
            "model": {"factory": "mine:model"},
            "data": {"factory": "mine:data"},
            "quality": {"metric": "accuracy"},
            "train": {"epochs": 1, "batch_size": 8},
            "registry": {"model": "all"},
            "variants": [{"name": name, "passes": chain} for name, chain in chains.items()],
            "targets": [
                *target_kinds(),
                {"kind": "import", "factory": "mine.target", "takes": "graph"},
            ],
            "gates": [],
        }
    )


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """All calls of the recipe with everything, as if every target ran here."""
    found: list[Call] = []

    def note(call: Call, inputs: object, after: Sequence[Call] = ()) -> Call:
        found.append(call)
        return call

    recipe = everything()
    here = Surroundings(cores=2, processor=processor(), availability=lambda _: None)
    layout = lay_out(recipe, here, note)
    lay_out_benchmark(recipe, here, note, layout.shared, layout.candidates)
    return found


def files_of_the_package() -> list[str]:
    return sorted(
        path.relative_to(PACKAGE).as_posix()
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*")
        if path.suffix in (".py", ".txt")
    )


def as_file(module: str) -> str:
    path = "/".join(module.split(".")[1:])
    return f"{path}.py" if (PACKAGE / f"{path}.py").is_file() else f"{path}/__init__.py"


class Reached:
    """What can be imported from a module, found in its bytecode: not how `keys` finds it."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def of(self, module: str) -> set[str]:
        """Modules of ours, not through carriers."""
        if module in self.found or module in CARRIERS:
            return self.found
        self.found.add(module)
        for name in _imported_by(module):
            self.of(name)
        return self.found


@functools.cache
def _imported_by(module: str) -> set[str]:
    source = PACKAGE / as_file(module)
    code = compile(source.read_bytes(), str(source), "exec")
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    return _imported(modulefinder.ModuleFinder(), code, package)


def _imported(finder: modulefinder.ModuleFinder, code: object, package: str) -> set[str]:
    found: set[str] = set()
    for kind, value in finder.scan_opcodes(code):
        match kind, value:
            case "absolute_import", (names, name):
                base, wanted = name, names or ()
            case "relative_import", (level, names, name):
                above = package.split(".")[: len(package.split(".")) - level + 1]
                base, wanted = ".".join([*above, *([name] if name else [])]), names or ()
            case _:
                continue
        if base.partition(".")[0] != "prefect_hone":
            continue
        inner = {f"{base}.{name}" for name in wanted if _is_module(f"{base}.{name}")}
        found |= inner or {base}
        if any(not _is_module(f"{base}.{name}") for name in wanted):
            found.add(base)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            found |= _imported(finder, constant, package)
    return found


def _is_module(name: str) -> bool:
    return (PACKAGE / as_file(name)).is_file()


def can_run(call: Call) -> set[str]:
    """Files of the package that a call can run or read, by their bytecode."""
    reached = Reached()
    for root in (call.step.module, *call.step.lends, *call.loads):
        reached.of(root)
    return {*map(as_file, reached.found), *call.files}


def test_a_change_of_any_file_gives_exactly_the_steps_that_can_run_it_another_key(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = {(call.step.module, call.loads, call.files): call for call in calls}
    calls = list(alike.values())
    copy = tmp_path / "package"
    for room in ROOMS:
        shutil.copytree(PACKAGE / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    read = keys._content.__wrapped__
    contents: dict[str, bytes] = {}  # of all files but the one that was changed

    def content(package: Path, path: str) -> bytes:
        assert package is copy
        if path not in contents:
            contents[path] = read(package, path)
        return contents[path]

    monkeypatch.setattr(keys, "_content", content)

    def all_keys() -> list[str]:
        return [cache_key(call, {}, NOTHING, copy) for call in calls]

    expected = [can_run(call) for call in calls]
    before = all_keys()
    files = files_of_the_package()
    right = 0
    for file in files:
        original = (copy / file).read_bytes()
        (copy / file).write_bytes(original + b"\n# changed\n")
        contents.pop(file, None)
        changed = {
            call.label
            for call, old, new in zip(calls, before, all_keys(), strict=True)
            if old != new
        }
        (copy / file).write_bytes(original)
        contents.pop(file, None)
        wanted = {
            call.label for call, can in zip(calls, expected, strict=True) if file in can
        }  # fmt: skip
        assert changed == wanted, file
        right += 1
    assert right == len(files) > 140
    contents.clear()
    assert all_keys() == before
    assert len(calls) > 30


def test_what_was_once_in_no_key_is_in_one(calls: list[Call]) -> None:
    """Faults that were there when the code of a step was listed by hand."""
    reached = {call.label: can_run(call) for call in calls}
    assert "tasks/benchmark/baseline.py" in reached["benchmark"], "the baseline of every ratio"
    assert "ray_workers/data/ray_datasets.py" in reached["train"], "the order of the rows"
    for label in ("check", "train"):
        assert "ray_workers/model/module.py" in reached[label]
    assert "ray_workers/training/parallel/tensor.py" in reached["check"]
    openvino = "runtimes/openvino_runtime.py"
    assert openvino in reached["validate fp32@openvino-cpu"], "how it is loaded"
    assert openvino in reached["benchmark"]
    assert openvino not in reached["validate fp32@onnxruntime-cpu"]
    for label in ("validate fp32@openvino-cpu", "benchmark"):
        assert "runtimes/child.py" in reached[label], "what times the calls"
        assert not {file for file in reached[label] if file.startswith("tasks/compile/")}
    assert "runtimes/served_model.py" not in set().union(*reached.values())
    assert "ray_workers/metrics/accuracy.py" in reached["compress controlled"]
    assert "ray_workers/metrics/mae.py" not in set().union(*reached.values())
    assert "runtimes/isolated/jax.txt" in reached["validate fp32@litert"]
    assert "runtimes/isolated/jax.txt" not in reached["validate fp32@executorch"]


STEPS = {
    "check": "prefect_hone.tasks.check",
    "reference": "prefect_hone.tasks.validate.reference",
    "export": "prefect_hone.tasks.export",
    "validate": "prefect_hone.tasks.validate.validate",
    "compile": "prefect_hone.tasks.compile.openvino_cpu",
}
#: Forks a process for each module, so that torch is imported once.
_IMPORT_EACH = """
import importlib, json, os, sys, torch
assert not [m for m in sys.modules if m.startswith("prefect_hone")]
for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        ours = [m for m in sys.modules if m.startswith("prefect_hone.")]
        print(json.dumps({name: ours}), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """The modules of the package that are imported with each step's, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_EACH, *STEPS.values()],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    assert set(found) == set(STEPS.values()), done.stderr
    return found


@pytest.mark.parametrize("label", STEPS)
def test_a_step_imports_nothing_that_its_key_does_not_know(
    label: str, imported: dict[str, list[str]]
) -> None:
    """Looked at where it runs: what is imported with the module is in the closure."""
    name = STEPS[label]
    loaded = {m for m in imported[name] if not is_face(m)}
    assert name in loaded
    # What carriers import for themselves computes nothing of the result.
    carried: set[str] = set().union(*(closure(c).modules for c in CARRIERS if not is_face(c)))
    assert loaded - set(CARRIERS) <= closure(name).modules | carried


def is_face(module: str) -> bool:
    """A package whose file only says what it is for, or passes names on."""
    return as_file(module).endswith("__init__.py")


def test_carriers_are_there_and_are_no_steps(calls: list[Call]) -> None:
    for carrier in CARRIERS:
        assert (PACKAGE / as_file(carrier)).is_file() or carrier == "prefect_hone"
    assert not {call.step.module for call in calls} & CARRIERS
    assert not {module for call in calls for module in call.loads} & CARRIERS


def test_every_library_of_a_step_has_a_version_and_is_in_its_key(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    holders = importlib.metadata.packages_distributions()
    reached = {
        call.label: closure(call.step.module, *call.step.lends, *call.loads).libraries
        for call in calls
    }
    for name in set().union(*reached.values()):
        if importlib.util.find_spec(name) is None:
            assert library_version(name) == "none", name
            continue
        assert library_version(name) in {importlib.metadata.version(d) for d in holders[name]}
    assert {"torch", "onnx", "onnxscript"} <= {*reached["export"], "onnxscript"}
    assert "openvino" in reached["validate fp32@openvino-cpu"]
    assert "openvino" not in reached["validate fp32@onnxruntime-cpu"]
    assert "torch_pruning" in reached["compress slim"]
    before = {call.label: cache_key(call, {}, NOTHING) for call in calls}
    installed = keys.library_version
    monkeypatch.setattr(
        keys, "library_version", lambda name: "99" if name == "openvino" else installed(name)
    )
    changed = {
        call.label for call in calls if cache_key(call, {}, NOTHING) != before[call.label]
    }  # fmt: skip
    assert changed == {label for label, names in reached.items() if "openvino" in names}


def test_the_code_of_a_bundled_recipe_is_what_its_factories_reach() -> None:
    def of(model: str, data: str) -> str:
        recipe = everything().model_copy(
            update={
                "model": everything().model.model_copy(update={"factory": model}),
                "data": everything().data.model_copy(update={"factory": data}),
            }
        )
        return identify(recipe, None)[0].digest

    digits = "prefect_hone.recipe.examples.digits"
    one = of(f"{digits}.digits_model:small_resnet", f"{digits}.digits_data:digits")
    assert one == of(f"{digits}.digits_model:other", f"{digits}.digits_data:digits")
    assert one != of(
        f"{digits}.digits_model:x", "prefect_hone.recipe.examples.charlm.charlm_data:x"
    )
    assert of(f"{digits}.none:x", f"{digits}.digits_data:digits") != one


def test_spec_inputs_code_and_function_are_in_the_key(calls: list[Call]) -> None:
    call = next(call for call in calls if call.label == "check")
    keys_ = {
        cache_key(call, {}, NOTHING),
        cache_key(call, {"graph": "0" * 64}, NOTHING),
        cache_key(call, {}, UserCode(digest="1")),
        cache_key(next(c for c in calls if c.label == "reference"), {}, NOTHING),
    }
    assert len(keys_) == 4
