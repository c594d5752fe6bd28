"""The model card of a run's winner: what it is, how it was made and measured, and what it can't do.

The sections are those of Mitchell et al., Model Cards for Model Reporting,
https://arxiv.org/abs/1810.03993, as far as a run knows them.
"""

from __future__ import annotations

from ...recipe.measures import MEASURES
from ..outcome import Candidate
from .contents import Report
from .measured_again import p50
from .table import cell, failure, headline

#: Below so many test samples, quality is known only roughly.
_MANY_SAMPLES = 100
_MOST_LAYERS = 20


def model_card(report: Report) -> str:
    """The card, as Markdown. Without a winner it says so, and why."""
    best = report.outcome.winning
    lines = [f"# Model card: {report.recipe.registry.model}", "", headline(report.outcome), ""]
    if best is None:
        return "\n".join(lines)
    lines += [*_what(report, best), *_data(report), *_compression(report, best)]
    lines += [*_measurements(report, best), *_weaknesses(report, best), *_provenance(report, best)]
    return "\n".join(lines) + "\n"


def _section(title: str, *lines: str) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _what(report: Report, best: Candidate) -> list[str]:
    model = report.recipe.model
    came = model.source or model.factory
    return _section(
        "Model",
        f"- Variant `{best.variant}`, compiled for `{best.target}`.",
        f"- Made from `{came}` ({report.parameters:,} parameters), by the recipe "
        f"`{report.recipe.name}` ({report.outcome.recipe_digest[:12]}).",
    )


def _data(report: Report) -> list[str]:
    sizes = ", ".join(f"{name} {count:,}" for name, count in report.data.sizes.items())
    trained = report.recipe.train
    how = (
        f"- Trained for {trained.epochs} epochs in batches of {trained.batch_size}; the weights of "
        "the epoch with the best validation quality are kept."
        if trained.epochs
        else "- Not trained by Hone: the weights are those that the model came with."
    )
    return _section(
        "Data and training",
        f"- {report.data.name}, from `{report.recipe.data.factory}`: {sizes} samples.",
        how,
        "- Quality is measured on the test split, which nothing else looks at.",
    )


def _compression(report: Report, best: Candidate) -> list[str]:
    variant = next(v for v in report.recipe.variants if v.name == best.variant)
    passes = [
        f"- {i}. `{p.kind}`: "
        + ", ".join(
            f"{name} {value}"
            for name, value in p.model_dump(mode="json", exclude_defaults=True).items()
            if name != "kind" and isinstance(value, str | int | float)
        )
        for i, p in enumerate(variant.passes, 1)
    ]
    left = report.left_alone.get(best.name, {})
    named = [f"`{layer}` ({reason})" for layer, reason in list(left.items())[:_MOST_LAYERS]]
    more = f" and {len(left) - _MOST_LAYERS} more" if len(left) > _MOST_LAYERS else ""
    if left:
        passes.append(f"- Left as they were: {', '.join(named)}{more}.")
    return _section("Compression", *(passes or ["- None."]))


_SHOWN = (
    ("quality.value", "quality on the test split"),
    ("quality.drop", "drop, paired with the trained model"),
    ("quality.worst_group", "quality of the worst group"),
    ("latency.p50_ms", "latency p50 (ms)"),
    ("latency.p99_ms", "latency p99 (ms)"),
    ("latency.ratio", "times as fast as PyTorch eager"),
    ("size.bytes", "size"),
    ("memory.peak_bytes", "peak memory (bytes)"),
    ("memory.gpu_bytes", "GPU memory (bytes)"),
    ("cold_start.first_answer_s", "start of a process to its first answer (s)"),
    ("energy.joules_per_sample", "energy of the machine for a sample (J)"),
    ("parity.sqnr_db", "SQNR of the outputs"),
)


def _measurements(report: Report, best: Candidate) -> list[str]:
    metric = report.recipe.quality.name
    rows = []
    for name, told in _SHOWN:
        measure = MEASURES[name]
        value = cell(measure, best.metrics, metric)
        if value:
            trained = cell(measure, report.outcome.baseline, metric)
            rows.append(f"| {told.replace('quality', metric, 1)} | {value} | {trained} |")
        if name == "latency.p50_ms" and best.again is not None:
            rows.append(f"| latency p50 (ms), measured again | {p50(best.again)} | |")
    gates = [
        f"- {gate.metric} {'≤' if gate.bound == 'at_most' else '≥'} {gate.limit:.4g}: "
        + (f"passed with {gate.value:.4g}" if gate.passed and gate.value is not None
           else f"passed, {gate.said}" if gate.passed else f"failed, {failure(gate)}")
        for gate in best.gates
    ]  # fmt: skip
    benchmark = report.recipe.benchmark
    return _section(
        "Measurements",
        "| | this model | trained model in PyTorch |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Brackets are 95 % intervals. Latency at batch size {report.batch} with "
        f"{benchmark.threads} thread{'' if benchmark.threads == 1 else 's'}, alone on the machine.",
        "",
        "Gates:",
        "",
        *(gates or ["- None."]),
    )


def _weaknesses(report: Report, best: Candidate) -> list[str]:
    found = []
    tested = report.data.sizes.get("test", 0)
    if 0 < tested < _MANY_SAMPLES:
        found.append(f"- The test split has {tested} samples: quality is known only roughly.")
    if best.worst_group is not None:
        found.append(
            f"- The group that lost most {report.recipe.quality.name}: {best.worst_group}."
        )
    drop = best.metrics.get("quality/drop_high")
    if drop is not None and drop > 0:
        found.append(f"- The loss of {report.recipe.quality.name} may be up to {drop:.4g} (95 %).")
    worst = best.metrics.get("robustness/worst_drop")
    if worst is not None and worst > 0:
        found.append(
            f"- Under corrupted inputs it loses up to {worst:.4g} of {report.recipe.quality.name} "
            "more than the trained model."
        )
    if report.recipe.quality.groups is None:
        found.append("- Quality by group was not looked at (`quality.groups`).")
    found += [f"- Not looked at: {one}." for one in report.outcome.not_looked_at]
    found.append("- Behavior on other data than the test split's was not looked at.")
    return _section("Known weaknesses and limits", *found)


def _provenance(report: Report, best: Candidate) -> list[str]:
    facts = [f"- {name}: {value}" for name, value in report.environment.items() if value]
    sha256 = best.artifact.sha256 if best.artifact is not None else ""
    return _section(
        "Provenance",
        f"- artifact: sha256 `{sha256}`",
        f"- MLflow run: `{report.outcome.run_id}`",
        *facts,
        "- The model carries a proof and checks its outputs where it is loaded: another processor "
        "may refuse it.",
    )
