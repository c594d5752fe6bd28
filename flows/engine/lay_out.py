"""The layout of a run: which steps, in which order, with which inputs, from recipe to benchmark.

`hone run` submits each step to Prefect and `hone plan` looks each one up in the cache, from the
same layout, so a plan always matches the run. Nothing here depends on the machine except through
`Surroundings`. A step with wrong names of inputs or outputs fails here, before anything runs.
"""

from __future__ import annotations

from typing import Literal

from ...recipe.errors import InputError
from ...recipe.passes import Pass, for_processor
from ...recipe.schema import Recipe, Variant
from ...recipe.targets import AnyTarget
from ...tasks.specs.check import CheckSpec, looked_at
from ...tasks.specs.compile import CompileSpec
from ...tasks.specs.compress import GraphPassSpec, Judge, ModulePassSpec
from ...tasks.specs.export import ExportSpec
from ...tasks.specs.layer_parity import LayerParitySpec
from ...tasks.specs.train import TrainSpec
from ...tasks.specs.validate import ReferenceSpec, ValidateSpec
from ...tasks.steps import (
    CHECK,
    EXPORT,
    LAYER_PARITY,
    REFERENCE,
    TRAIN,
    VALIDATE,
    Call,
    builder_modules,
    compile_step,
    graph_pass_step,
    loader_module,
    metric_module,
    module_pass_step,
    requirement_files,
)
from .lay_out_looks import (
    lay_out_corrupted,
    lay_out_explained,
    lay_out_looks,
    shows_samples,
    through_runtime,
)
from .lay_out_measurements import lay_out_champion
from .layout import (
    CandidateLayout,
    ChampionEntrant,
    H,
    Laid,
    Layout,
    Shared,
    Submit,
    VariantLayout,
    hand,
    judged_by,
)
from .surroundings import Surroundings


def candidate_name(variant: Variant, target: AnyTarget) -> str:
    return f"{variant.name}@{target.name}"


def check_targets(recipe: Recipe, here: Surroundings) -> None:
    """Refuse targets that are not installed, before anything starts.

    Raises:
        InputError: With the command that installs what is missing.
    """
    for index, target in enumerate(recipe.targets):
        unavailable = here.availability(target)
        if unavailable is not None and unavailable.installable:
            raise InputError(
                f"{target.name} can't be used: {unavailable.reason}",
                where=f"targets.{index}",
                do=unavailable.do,
            )


def lay_out(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    champion: ChampionEntrant[H] | None = None,
) -> Layout[H]:
    """Submit every step up to validation, each once, however many candidates share it."""
    shared = lay_out_shared(recipe, submit)
    candidates: list[CandidateLayout[H]] = []
    for variant in recipe.variants:
        laid = lay_out_variant(recipe, here, submit, shared, variant)
        candidates += [
            lay_out_candidate(recipe, here, submit, shared, laid, target)
            for target in recipe.targets
        ]
    beside = None
    if champion is not None:
        beside = lay_out_champion(recipe, here, submit, shared, champion)
    return Layout(shared, tuple(candidates), beside)


def lay_out_shared(recipe: Recipe, submit: Submit[H]) -> Shared[H]:
    """Check and train, and what is measured and made of the trained model."""
    check, train, reference = lay_out_training(recipe, submit)
    weights = train.output("weights")
    return Shared(
        check,
        train,
        reference,
        _export(recipe, submit, weights, check, "export"),
        lay_out_corrupted(recipe, submit, weights),
        lay_out_explained(recipe, submit, weights),
    )


def lay_out_training(recipe: Recipe, submit: Submit[H]) -> tuple[Laid[H], Laid[H], Laid[H]]:
    """Check, train, and the reference: the trained model's own quality."""
    judged = judged_by(recipe)
    metric = metric_module(judged.metric)
    limit = recipe.timeouts.step
    check = hand(
        submit,
        CHECK.call(
            "check",
            CheckSpec(
                **dict(judged),
                train=looked_at(recipe.train),
                batch_sizes=recipe.benchmark.batch_sizes,
                proofs=recipe.checked_proofs,
                groups=recipe.grouped_by,
            ),
            loads=(metric,),
            timeout=limit,
        ),
    )
    train = hand(
        submit,
        TRAIN.call(
            "train",
            TrainSpec(
                model=judged.model,
                data=judged.data,
                train=recipe.train,
                metric=judged.metric,
                metric_outputs=judged.metric_outputs,
                higher_is_better=recipe.quality.rises,
            ),
            loads=(metric,),
            cpus=0 if recipe.train.epochs else 1,  # its workers reserve theirs
            timeout=recipe.timeouts.train,
            retries=0,  # it starts again by itself, within max_failures
        ),
        after=[check.handle],
    )
    reference = hand(
        submit,
        REFERENCE.call(
            "reference",
            ReferenceSpec(**dict(judged), groups=recipe.grouped_by),
            loads=(metric,),
            timeout=limit,
        ),
        {"weights": train.output("weights")},
    )
    return check, train, reference


def lay_out_variant(
    recipe: Recipe, here: Surroundings, submit: Submit[H], shared: Shared[H], variant: Variant
) -> VariantLayout[H]:
    """The passes of a variant, with the export between those on the module and on the graph."""
    module = shared.train.output("weights")
    on_module = [shared.check.handle, shared.train.handle, shared.reference.handle]
    passes = [(_pass_label(variant, i), step) for i, step in enumerate(variant.passes)]
    for label, compression in passes:
        if compression.works_on == "module":
            call = _module_pass(recipe, variant, compression, label)
            laid = hand(submit, call, {"module": module})
            module = laid.output("module")
            on_module.append(laid.handle)
    exported = shared.export
    if len(on_module) > 3:
        exported = _export(recipe, submit, module, shared.check, f"export {variant.name}")
    graph, on_graph = exported.output("graph"), [exported.handle]
    takes_graph = any(target.takes == "graph" for target in recipe.targets)
    for label, compression in passes if takes_graph else ():
        if compression.works_on == "graph":
            laid = hand(
                submit,
                _graph_pass(recipe, here, compression, label),
                {"graph": graph, "calibration": shared.check.output("calibration")},
            )
            graph = laid.output("graph")
            on_graph.append(laid.handle)
    if len(on_graph) > 1 and recipe.proofs.layer_parity:
        on_graph.append(_layer_parity(recipe, here, submit, shared, exported, (variant, graph)))
    return VariantLayout(variant, module, graph, tuple(on_module), tuple(on_graph))


def lay_out_candidate(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    shared: Shared[H],
    laid: VariantLayout[H],
    target: AnyTarget,
) -> CandidateLayout[H]:
    """Compile a variant for a target, and validate the result."""
    name = candidate_name(laid.variant, target)
    on_module = target.takes == "module"
    common = laid.on_module if on_module else (*laid.on_module, *laid.on_graph)
    unavailable = here.availability(target)
    if unavailable is not None:
        return CandidateLayout(name, laid.variant, target, common, unavailable)
    judged = judged_by(recipe)
    reserved = {"candidate": name, "gpus": 1 if target.gpu else 0, "timeout": recipe.timeouts.step}
    sources = {"graph": laid.graph}
    if on_module:
        sources = {"module": laid.module, "calibration": shared.check.output("calibration")}
    compiled = hand(
        submit,
        compile_step(target).call(
            f"compile {name}",
            CompileSpec(
                target=target,
                batch_sizes=recipe.benchmark.batch_sizes if target.fixed_batch else None,
                processor=here.processor.identity() if target.native else None,
                model=judged.model if on_module else None,
                passes=_passes_on_graph(laid.variant) if on_module else (),
            ),
            loads=builder_modules(target.kind),
            files=requirement_files(target.kind),
            **reserved,
        ),
        sources,
    )
    validated = hand(
        submit,
        VALIDATE.call(
            f"validate {name}",
            ValidateSpec(
                **dict(judged),
                flips=recipe.proofs.flips,
                show_samples=shows_samples(recipe),
                higher_is_better=recipe.quality.rises,
                **through_runtime(target, here),
            ),
            loads=(metric_module(judged.metric), loader_module(target.kind)),
            files=requirement_files(target.kind),
            **reserved,
        ),
        {
            "weights": shared.train.output("weights"),
            "model": compiled.output("model"),
            "statistics": shared.reference.output("statistics"),
            "groups": shared.reference.output("groups"),
        },
    )
    looks = lay_out_looks(recipe, here, submit, shared, target, (compiled, validated))
    return CandidateLayout(
        name, laid.variant, target, common, None, compiled.handle, validated.handle, looks
    )


def _export(
    recipe: Recipe, submit: Submit[H], module: tuple[H, str], check: Laid[H], label: str
) -> Laid[H]:
    call = EXPORT.call(label, ExportSpec(model=recipe.model), timeout=recipe.timeouts.step)
    return hand(submit, call, {"weights": module, "inputs": check.output("calibration")})


def _layer_parity(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    shared: Shared[H],
    exported: Laid[H],
    compressed: tuple[Variant, tuple[H, str]],
) -> H:
    """Compare a compressed graph with the exported one, layer by layer."""
    variant, graph = compressed
    call = LAYER_PARITY.call(
        f"layer-parity {variant.name}",
        LayerParitySpec(processor=here.processor.identity()),
        timeout=recipe.timeouts.step,
    )
    sources = {
        "reference": exported.output("graph"),
        "graph": graph,
        "samples": shared.check.output("samples"),
    }
    return hand(submit, call, sources).handle


def _pass_label(variant: Variant, position: int) -> str:
    label = f"compress {variant.name}"
    if len(variant.passes) > 1:
        label += f" ({position + 1}: {variant.passes[position].name})"
    return label


def _passes_on_graph(variant: Variant) -> tuple[Pass, ...]:
    return tuple(step for step in variant.passes if step.works_on == "graph")


def _graph_pass(recipe: Recipe, here: Surroundings, compression: Pass, label: str) -> Call:
    """A pass on the graph, for this processor, which quantization's measurements and bits depend
    on.
    """
    judged = judged_by(recipe)
    judges = compression.looks_at_validation
    higher = recipe.quality.rises
    return graph_pass_step(compression).call(
        label,
        GraphPassSpec(
            compression=for_processor(compression, here.processor.saturates_int8),
            processor=here.processor.identity() if compression.depends_on_processor else None,
            judge=Judge(**dict(judged), higher_is_better=higher, runtimes=_serving(recipe))
            if judges
            else None,
        ),
        loads=(metric_module(judged.metric),) if judges else (),
        timeout=recipe.timeouts.step,
    )


def _serving(recipe: Recipe) -> tuple[Literal["onnxruntime", "openvino"], ...]:
    """Runtimes of the recipe's targets that can judge a graph on any machine's processor."""
    kinds = {target.kind for target in recipe.targets if target.takes == "graph"}
    found: list[Literal["onnxruntime", "openvino"]] = []
    if not kinds or any(not kind.startswith("openvino") for kind in kinds):
        found.append("onnxruntime")
    if any(kind.startswith("openvino") for kind in kinds):
        found.append("openvino")
    return tuple(found)


def _module_pass(recipe: Recipe, variant: Variant, compression: Pass, label: str) -> Call:
    """A pass on the torch module; one that trains has its own workers."""
    judged = judged_by(recipe)
    trains = compression.trains
    return module_pass_step(compression).call(
        label,
        ModulePassSpec(
            **dict(judged),
            compression=compression,
            label=f"{variant.name}/{compression.name}",
            train=recipe.train,
            higher_is_better=recipe.quality.rises,
        ),
        loads=(metric_module(judged.metric),),
        cpus=0 if trains else 1,
        timeout=recipe.timeouts.train if trains else recipe.timeouts.step,
        retries=0 if trains else None,
    )
