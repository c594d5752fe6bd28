"""The cached steps, which run in workers: their names, functions, inputs and outputs.

This is the only file that names modules by import path: functions of steps, and what they load by
name. It imports nothing but the standard library and pydantic, so that `hone plan` is fast. What a
step's result depends on is derived from its code, in `keys.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..recipe.metrics import METRICS
from ..recipe.passes import Pass
from ..recipe.strict import IMPORT
from ..recipe.targets import AnyTarget, target_class
from .specs.base import Facts, Spec
from .specs.benchmark import BenchmarkFacts, BenchmarkSpec
from .specs.check import CheckFacts, CheckSpec
from .specs.compile import CompileSpec
from .specs.compress import GraphPassSpec, ModulePassFacts, ModulePassSpec, QuantizeFacts
from .specs.explanation import (
    ExplainedFacts,
    ExplainedSpec,
    ExplanationFacts,
    ExplanationSpec,
)
from .specs.export import ExportSpec
from .specs.layer_parity import LayerParityFacts, LayerParitySpec
from .specs.robustness import (
    CorruptedFacts,
    CorruptedSpec,
    RobustnessFacts,
    RobustnessSpec,
)
from .specs.train import TrainFacts, TrainSpec
from .specs.validate import (
    CompareFacts,
    CompareSpec,
    ReferenceSpec,
    ValidateFacts,
    ValidateSpec,
)

S = TypeVar("S", bound=Spec)

_ROOT = __package__.partition(".")[0]
_TASKS = f"{_ROOT}.tasks"
#: Name of the modules that call the user's own passes and targets.
IMPORTED = "imported"


@dataclass(frozen=True)
class Step(Generic[S]):
    """A kind of step.

    Attributes:
        name: Its name.
        function: Import path of its function, which takes a `Workspace`.
        spec: What it is asked to do.
        inputs: Names of the artifacts that it reads.
        outputs: Names of the artifacts that it may write.
        facts: What it finds out, or None.
        takes_candidates: Whether it reads further artifacts, each under its candidate's name.
        runs_user_code: Whether it calls the recipe's factories, so that their code is part of
            the cache key.
        retries: How often it is retried after its worker died.
        tracked_as: The MLflow run for its metrics; None: its candidate's, or the parent run if
            several candidates share it.
        told_by_candidates: Whether its metrics also go to the runs of the candidates that share it.
        watches_memory: Whether its peak memory is measured.
        holds_the_machine: Whether nothing else may run beside it, because it measures time.
        keeps_checkpoints: Whether it writes checkpoints, which are deleted once it is done.
        lends: Modules of this package that the user's code may call within it; their code is part
            of the cache key.
    """

    name: str
    function: str
    spec: type[S]
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    facts: type[Facts] | None = None
    takes_candidates: bool = False
    runs_user_code: bool = False
    retries: int = 0
    tracked_as: str | None = None
    told_by_candidates: bool = False
    watches_memory: bool = False
    holds_the_machine: bool = False
    keeps_checkpoints: bool = False
    lends: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Import path of the function's module."""
        return self.function.partition(":")[0]

    def call(self, label: str, spec: S, **options: Any) -> Call:
        """This step with a spec; options are the other fields of a `Call`."""
        return Call(self, label, spec, **options)


CHECK = Step(
    "check",
    f"{_TASKS}.check:check",
    CheckSpec,
    outputs=frozenset({"samples", "calibration"}),
    facts=CheckFacts,
    runs_user_code=True,
    retries=1,
)
TRAIN = Step(
    "train",
    f"{_TASKS}.train:train",
    TrainSpec,
    outputs=frozenset({"weights"}),
    facts=TrainFacts,
    runs_user_code=True,
    tracked_as="train",
    keeps_checkpoints=True,
)
REFERENCE = Step(
    "reference",
    f"{_TASKS}.validate.reference:reference",
    ReferenceSpec,
    inputs=frozenset({"weights"}),
    outputs=frozenset({"statistics", "groups"}),
    runs_user_code=True,
    retries=1,
)
EXPORT = Step(
    "export",
    f"{_TASKS}.export:export",
    ExportSpec,
    inputs=frozenset({"weights", "inputs"}),
    outputs=frozenset({"graph"}),
    runs_user_code=True,
    retries=1,
)
LAYER_PARITY = Step(
    "layer-parity",
    f"{_TASKS}.validate.layer_parity:compare",
    LayerParitySpec,
    inputs=frozenset({"reference", "graph", "samples"}),
    facts=LayerParityFacts,
    retries=1,
    told_by_candidates=True,
)
VALIDATE = Step(
    "validate",
    f"{_TASKS}.validate.validate:validate",
    ValidateSpec,
    inputs=frozenset({"weights", "model", "statistics", "groups"}),
    outputs=frozenset({"proof", "statistics"}),
    facts=ValidateFacts,
    runs_user_code=True,
    retries=1,
)
CORRUPTED = Step(
    "corrupted",
    f"{_TASKS}.validate.robustness:trained",
    CorruptedSpec,
    inputs=frozenset({"weights"}),
    outputs=frozenset({"statistics"}),
    facts=CorruptedFacts,
    runs_user_code=True,
    retries=1,
)
ROBUSTNESS = Step(
    "robustness",
    f"{_TASKS}.validate.robustness:candidate",
    RobustnessSpec,
    inputs=frozenset({"model", "reference", "validated", "corrupted"}),
    facts=RobustnessFacts,
    runs_user_code=True,
    retries=1,
)
EXPLAINED = Step(
    "explained",
    f"{_TASKS}.validate.explanation:trained",
    ExplainedSpec,
    inputs=frozenset({"weights"}),
    outputs=frozenset({"attributions"}),
    facts=ExplainedFacts,
    runs_user_code=True,
    retries=1,
)
EXPLANATION = Step(
    "explanation",
    f"{_TASKS}.validate.explanation:candidate",
    ExplanationSpec,
    inputs=frozenset({"model", "attributions"}),
    facts=ExplanationFacts,
    runs_user_code=True,
    retries=1,
)
COMPARE = Step(
    "compare",
    f"{_TASKS}.validate.compare:compare",
    CompareSpec,
    inputs=frozenset({"champion"}),
    facts=CompareFacts,
    takes_candidates=True,
    runs_user_code=True,
    retries=1,
)
BENCHMARK = Step(
    "benchmark",
    f"{_TASKS}.benchmark.benchmark:benchmark",
    BenchmarkSpec,
    inputs=frozenset({"weights", "samples"}),
    facts=BenchmarkFacts,
    takes_candidates=True,
    runs_user_code=True,
    retries=1,
    holds_the_machine=True,
)

#: Stands for what a run is given and does not compute: the registered bytes of today's champion.
GIVEN = Step("given", "", Spec, outputs=frozenset({"model"}))

#: Import path of the function that loads the baseline of every benchmark.
BASELINE_LOADER = f"{_TASKS}.benchmark.baseline:load"


#: Modules that the user's own passes may call.
_LENT = (f"{_TASKS}.compress.training_pass", f"{_ROOT}.ray_workers.model.onnx_files")
#: Modules that the user's own targets may call.
_LENT_TO_TARGETS = (f"{_TASKS}.compile.program", f"{_ROOT}.ray_workers.model.onnx_files")


def module_pass_step(compression: Pass) -> Step[ModulePassSpec]:
    """The step of a pass on the torch module."""
    return Step(
        "compress",
        pass_function(compression.kind),
        ModulePassSpec,
        inputs=frozenset({"module"}),
        outputs=frozenset({"module"}),
        facts=ModulePassFacts,
        runs_user_code=compression.calls_user_code,
        retries=1,
        told_by_candidates=True,
        lends=_LENT if compression.kind == IMPORT else (),
    )


def graph_pass_step(compression: Pass) -> Step[GraphPassSpec]:
    """The step of a pass on the exported graph."""
    return Step(
        "compress",
        pass_function(compression.kind),
        GraphPassSpec,
        inputs=frozenset({"graph", "calibration"}),
        outputs=frozenset({"graph", "sensitivity"}),
        facts=QuantizeFacts,
        runs_user_code=compression.calls_user_code or compression.looks_at_validation,
        retries=1,
        told_by_candidates=True,
        lends=_LENT if compression.kind == IMPORT else (),
    )


def pass_function(kind: str) -> str:
    """Import path of a pass's `apply`, by its kind."""
    return f"{_TASKS}.compress.{_file_of(kind)}:apply"


def compile_step(target: AnyTarget) -> Step[CompileSpec]:
    """The step that compiles for a target."""
    on_module = target.takes == "module"
    return Step(
        "compile",
        f"{target_module(target.kind)}:compile_graph",
        CompileSpec,
        inputs=frozenset({"module", "calibration"} if on_module else {"graph"}),
        outputs=frozenset({"model"}),
        runs_user_code=target.calls_user_code,
        retries=1,
        watches_memory=True,
        lends=_LENT_TO_TARGETS if target.kind == IMPORT else (),
    )


def target_module(kind: str) -> str:
    """Module of a target, by its kind: it has `compile_graph`, `load`, `availability`."""
    return f"{_TASKS}.compile.{_file_of(kind)}"


def _file_of(kind: str) -> str:
    """Name of the module of a pass or target, by its kind."""
    return IMPORTED if kind == IMPORT else kind.replace("-", "_")


def runtime_of(kind: str) -> str:
    """Name of the runtime that opens a target's artifact: the kind starts with it."""
    return IMPORTED if kind == IMPORT else kind.partition("-")[0]


def loader_module(kind: str) -> str:
    """Module that opens a target's artifact."""
    return f"{_ROOT}.runtimes.{runtime_of(kind)}_runtime"


def loader(kind: str) -> str:
    """Import path of the function that opens a target's artifact."""
    return runtime_loader(runtime_of(kind))


def runtime_loader(runtime: str) -> str:
    """Import path of the function that opens a runtime's artifact."""
    function = "load_measured" if runtime == IMPORTED else "load"
    return f"{_ROOT}.runtimes.{runtime}_runtime:{function}"


def metric_module(metric: str) -> str:
    """Module of a metric; for the user's own, the one that loads it."""
    metrics = f"{_ROOT}.ray_workers.metrics"
    return metrics if ":" in metric else f"{metrics}.{METRICS[metric].file or metric}"


def builder_modules(kind: str) -> tuple[str, ...]:
    """The module that compiles for a target in its isolated environment, if it has one."""
    own = target_class(kind).environment is not None
    module = kind.replace("-", "_")
    return (f"{_TASKS}.compile.isolated.{module}_build",) if own else ()


def requirement_files(kind: str) -> tuple[str, ...]:
    """The requirements file of a target's isolated environment, if it has one."""
    return requirements_of_environment(target_class(kind).environment)


def requirements_of_environment(name: str | None) -> tuple[str, ...]:
    """The requirements file of an isolated environment; none for None."""
    return (f"runtimes/isolated/{name}.txt",) if name is not None else ()


@dataclass(frozen=True)
class Call:
    """A step with what it is asked to do.

    Attributes:
        step: The kind of step.
        label: Its name in this run (`compile int8@openvino-cpu`).
        spec: What it is asked to do, plain data; part of the cache key.
        loads: Modules of this package that it loads by name: a metric, runtimes. Their code is part
            of the cache key, like that of the step itself.
        files: Other files of this package that its result depends on, by their path in it.
        candidate: Name of the candidate that it belongs to; None if several share it.
        cpus: CPU cores that its worker reserves; 0: its training workers reserve theirs.
        gpus: GPUs that its worker reserves.
        timeout: Longest time that it may take (s).
        retries: How often it is retried after its worker died; None: as in its step.
    """

    step: Step[Any]
    label: str
    spec: Spec
    loads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    candidate: str | None = None
    cpus: float = 1
    gpus: float = 0
    timeout: float = 1800
    retries: int | None = None

    @property
    def starts_workers(self) -> bool:
        """Whether it trains, on its own workers."""
        return self.cpus == 0
