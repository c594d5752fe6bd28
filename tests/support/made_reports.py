"""A report of a run of which nothing was run."""

from __future__ import annotations

from made_runs import FP32, INT8, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.report.contents import DataSaid, Report, StepMade
from prefect_hone.tasks.specs.benchmark import BASELINE
from prefect_hone.tasks.specs.train import Curve
from prefect_hone.tasks.specs.validate import FlipFacts, GroupFact, ValidateFacts


def made_report() -> Report:
    """Two candidates, both passed; int8 is the faster one and loses a hundredth."""
    facts = benchmarked({BASELINE: 4.0, FP32: 2.0, INT8: 1.0})
    steps = usual(fp32=0.0, int8=0.01)
    asked = recipe()
    outcome = conclude(asked, "run1", results(asked, steps, facts))
    return Report(
        outcome=outcome,
        recipe=asked,
        timings=facts.measured,
        curves={
            "train/loss": Curve.thinned([(i, 2.3 * 0.98**i) for i in range(1000)]),
            "validation/loss": Curve(steps=(500, 999), values=(0.4, 0.2)),
            "validation/accuracy": Curve(steps=(500, 999), values=(0.8, 0.9)),
        },
        sensitivity={INT8: {f"layers.{i}.conv": 10.0 + i for i in range(8)}},
        judged={
            INT8: ValidateFacts(
                flips=FlipFacts(broken=3, repaired=1, count=40, p_value=0.625, broken_samples=(4, 9, 30)),
                groups=tuple(
                    GroupFact(group=str(i), count=10, before=0.9, after=0.7 + i / 10, low=0.4, high=0.95,
                              drop=0.2 - i / 10)
                    for i in range(3)
                ),
            )
        },
        left_alone={INT8: {"layers.0.conv": "too sensitive"}},
        data=DataSaid(name="wine-data", sizes={"train": 100, "test": 40}),
        parameters=12_345,
        steps=tuple(
            StepMade(
                label=step.label, key=step.key, cached=step.cached, seconds=step.done.seconds,
                outputs={name: artifact.sha256 for name, artifact in step.done.outputs.items()},
            )
            for step in steps.done
        ),
        environment={"processor": "new", "hone": "0.1"},
        made="2026-01-01 00:00 UTC",
    )  # fmt: skip
