"""The layout of what is measured together: the benchmark, and today's champion in it."""

from __future__ import annotations

from collections.abc import Sequence

from ...recipe.benchmark import Offline, Server
from ...recipe.errors import InputError
from ...recipe.measures import find_measure, is_per_batch
from ...recipe.schema import Recipe
from ...runtimes.opening import runtime
from ...tasks.decide import primary_batch
from ...tasks.specs.benchmark import CHAMPION, BenchmarkEntry, BenchmarkSpec, ChampionEntry
from ...tasks.specs.validate import CompareSpec, ValidateSpec
from ...tasks.steps import (
    BASELINE_LOADER,
    BENCHMARK,
    COMPARE,
    VALIDATE,
    loader,
    loader_module,
    metric_module,
    requirement_files,
    requirements_of_environment,
    runtime_loader,
)
from .lay_out_looks import shows_samples
from .layout import CandidateLayout, ChampionEntrant, H, Shared, Submit, hand, judged_by
from .surroundings import Surroundings

#: Label of the second session of the benchmark.
MEASURED_AGAIN = "benchmark again"


def lay_out_champion(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    shared: Shared[H],
    champion: ChampionEntrant[H],
) -> H:
    """Validate today's champion on the test split, as candidates are.

    A candidate of the same bytes has the same step, which is computed once.
    """
    judged = judged_by(recipe)
    environment = runtime(champion.runtime).ENVIRONMENT
    opening = runtime_loader(champion.runtime)
    call = VALIDATE.call(
        f"validate {CHAMPION}",
        ValidateSpec(
            **dict(judged),
            flips=recipe.proofs.flips,
            show_samples=shows_samples(recipe),
            higher_is_better=recipe.quality.rises,
            loader=opening,
            environment=environment,
            options=champion.options,
            processor=here.processor.identity(),
        ),
        loads=(metric_module(judged.metric), opening.partition(":")[0]),
        files=requirements_of_environment(environment),
        gpus=1 if champion.gpu else 0,
        timeout=recipe.timeouts.step,
    )
    inputs = {
        "weights": shared.train.output("weights"),
        "model": champion.model,
        "statistics": shared.reference.output("statistics"),
        "groups": shared.reference.output("groups"),
    }
    return hand(submit, call, inputs).handle


def lay_out_comparison(
    recipe: Recipe,
    submit: Submit[H],
    champion: ChampionEntrant[H],
    beside: H,
    able: Sequence[CandidateLayout[H]],
) -> H:
    """Compare the quality of validated candidates with today's champion's, sample by sample.

    Args:
        recipe: The recipe.
        submit: How steps are run.
        champion: Today's champion.
        beside: Its validation.
        able: The candidates that were validated.
    """
    judged = judged_by(recipe)
    inputs = {CHAMPION: (beside, "statistics")}
    for candidate in able:
        assert candidate.validated is not None  # noqa: S101 (narrows a type)
        inputs[candidate.name] = (candidate.validated, "statistics")
    call = COMPARE.call(
        f"compare with {CHAMPION}",
        CompareSpec(
            metric=judged.metric,
            higher_is_better=recipe.quality.rises,
            champion=champion.version,
            digest=champion.digest,
        ),
        loads=(metric_module(judged.metric),),
        timeout=recipe.timeouts.step,
    )
    return hand(submit, call, inputs).handle


def lay_out_benchmark(
    recipe: Recipe,
    here: Surroundings,
    submit: Submit[H],
    shared: Shared[H],
    able: Sequence[CandidateLayout[H]],
    champion: ChampionEntrant[H] | None = None,
    after: H | None = None,
) -> H:
    """Submit the benchmark of the candidates that were validated, and of today's champion.

    It reserves every core, so no other step of the run works beside it.

    Args:
        recipe: The recipe.
        here: The machine.
        submit: How steps are run.
        shared: The steps that all candidates share.
        able: The candidates that were validated.
        champion: Today's champion, if the recipe compares with it and no candidate is the same.
        after: The first session, if this is the second one, which measures the best few again.
    """
    inputs = {
        "weights": shared.train.output("weights"),
        "samples": shared.check.output("samples"),
    }
    for candidate in able:
        assert candidate.compiled is not None  # noqa: S101 (narrows a type)
        inputs[candidate.name] = (candidate.compiled, "model")
    kinds = dict.fromkeys(candidate.target.kind for candidate in able)
    modules = [BASELINE_LOADER.partition(":")[0], *map(loader_module, kinds)]
    files = [file for kind in kinds for file in requirement_files(kind)]
    entry = None
    if champion is not None:
        inputs[CHAMPION] = champion.model
        entry = _entry(champion)
        modules.append(entry.loader.partition(":")[0])
        files += requirements_of_environment(entry.environment)
    again = after is not None
    _check_room(recipe, here)
    call = BENCHMARK.call(
        MEASURED_AGAIN if again else BENCHMARK.name,
        BenchmarkSpec(
            candidates=tuple(
                BenchmarkEntry(
                    name=candidate.name,
                    loader=loader(candidate.target.kind),
                    environment=candidate.target.environment,
                    options=dict(candidate.target.loader_options),
                )
                for candidate in able
            ),
            champion=entry,
            model=recipe.model,
            baseline=None if again and not recipe.asks("latency.ratio") else BASELINE_LOADER,
            batch_sizes=_asked_sizes(recipe) if again else recipe.benchmark.batch_sizes,
            threads=recipe.benchmark.threads,
            seconds=recipe.benchmark.seconds,
            launches=recipe.benchmark.launches,
            most_launches=recipe.benchmark.most_launches if again else None,
            scenarios=_scenarios(recipe, again),
            offline_batch=_offline_batch(recipe),
            processor=str(here.processor),
            session=2 if again else 1,
        ),
        loads=tuple(dict.fromkeys(modules)),
        files=tuple(dict.fromkeys(files)),
        cpus=here.cores,
        gpus=1 if any(c.target.gpu for c in able) or (champion and champion.gpu) else 0,
        timeout=recipe.timeouts.step,
    )
    before = [candidate.validated for candidate in able if candidate.validated is not None]
    return hand(submit, call, inputs, before if after is None else [*before, after]).handle


def _scenarios(recipe: Recipe, again: bool) -> tuple[Offline | Server, ...]:
    """The scenarios of a session: in the second one, those that gates and `select` look at."""
    asked = {measure.scenario for name, _ in recipe.asked if (measure := find_measure(name))}
    return tuple(s for s in recipe.benchmark.scenarios if not again or s.kind in asked)


def _offline_batch(recipe: Recipe) -> int:
    offline = recipe.benchmark.scenario("offline")
    return recipe.benchmark.offline_batch(offline) if isinstance(offline, Offline) else 1


def _check_room(recipe: Recipe, here: Surroundings) -> None:
    """Refuse more threads at once than the machine has cores.

    Raises:
        InputError: There are too many.
    """
    threads = recipe.benchmark.threads
    for index, scenario in enumerate(recipe.benchmark.scenarios):
        if scenario.instances > 1 and scenario.instances * threads > here.cores:
            raise InputError(
                f"{scenario.instances} processes with {threads} thread{'s' if threads > 1 else ''} "
                f"each don't fit on {here.cores:g} cores side by side",
                where=f"benchmark.scenarios.{index}.instances",
                do=f"give at most {max(1, int(here.cores // threads))}",
            )


def _asked_sizes(recipe: Recipe) -> tuple[int, ...]:
    """The batch sizes that gates and `select` look at."""
    main = primary_batch(recipe)
    asked = {size or main for name, size in recipe.asked if is_per_batch(name)} | {main}
    kinds = {scenario.kind for scenario in _scenarios(recipe, again=True)}
    asked |= ({1} if "server" in kinds else set()) | (
        {_offline_batch(recipe)} if "offline" in kinds else set()
    )
    return tuple(size for size in recipe.benchmark.batch_sizes if size in asked)


def _entry(champion: ChampionEntrant[H]) -> ChampionEntry:
    return ChampionEntry(
        name=CHAMPION,
        loader=runtime_loader(champion.runtime),
        environment=runtime(champion.runtime).ENVIRONMENT,
        options=champion.options,
        version=champion.version,
        digest=champion.digest,
    )
