"""Where a candidate comes from, as an in-toto statement with a SLSA provenance predicate.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and
https://slsa.dev/spec/v1.0/provenance: tools of the software supply chain read them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ..outcome import Candidate
from .contents import Report, StepMade

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/prefect-hone/prefect-hone/recipe/v1"
BUILDER = "https://github.com/prefect-hone/prefect-hone"


def statement(
    report: Report, candidate: Candidate, steps: Sequence[StepMade], given: dict[str, str]
) -> dict[str, JsonValue] | None:
    """The statement on one candidate; None if it has no artifact.

    Args:
        report: Of the run.
        candidate: The candidate, the subject.
        steps: The steps that it was made and measured by, in order.
        given: sha256 of what went in, by name: code, samples of the data.
    """
    if candidate.artifact is None:
        return None
    libraries: list[JsonValue] = [
        {"name": name, "uri": f"pkg:pypi/{name}@{version}"}
        for name, version in report.environment.items()
        if name not in ("processor", "timed slices", "system", "source", "hone")
    ]
    materials: list[JsonValue] = [
        {"name": name, "digest": {"sha256": sha256}} for name, sha256 in given.items()
    ]
    source = report.environment.get("source", "")
    if source:
        materials.append({"name": "source", "uri": source})
    return {
        "_type": STATEMENT,
        "subject": [{"name": candidate.name, "digest": {"sha256": candidate.artifact.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": report.recipe.digested(),
                    "recipe_digest": report.outcome.recipe_digest,
                    "candidate": candidate.name,
                },
                "internalParameters": {
                    "processor": report.environment.get("processor", ""),
                    "system": report.environment.get("system", ""),
                },
                "resolvedDependencies": [*materials, *libraries],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"hone": report.environment.get("hone", "")}},
                "metadata": {"invocationId": report.outcome.run_id},
                "byproducts": [
                    {
                        "name": f"{step.label}/{name}",
                        "digest": {"sha256": sha256},
                        "annotations": {"step_key": step.key},
                    }
                    for step in steps
                    for name, sha256 in step.outputs.items()
                ],
            },
        },
    }
