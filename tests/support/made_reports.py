"""A report of a run of which nothing was run."""

from __future__ import annotations

import base64
import io

import numpy as np
from made_runs import FP32, INT8, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.outcome import Again
from prefect_hone.tasks.report.contents import DataSaid, Report, StepMade
from prefect_hone.tasks.specs.benchmark import BASELINE, ColdStart, ScenarioResult
from prefect_hone.tasks.specs.explanation import (
    Attribution,
    ExplainedFacts,
    ExplanationFacts,
)
from prefect_hone.tasks.specs.robustness import RobustnessFacts, UnderCorruption
from prefect_hone.tasks.specs.shown import ShownSample
from prefect_hone.tasks.specs.train import Curve
from prefect_hone.tasks.specs.validate import FlipFacts, FlippedSample, GroupFact, ValidateFacts

#: A PNG of one grey pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def made_robustness() -> RobustnessFacts:
    """A candidate that loses a hundredth more under strong noise."""
    return RobustnessFacts(
        kind="images", samples=40, before=0.95, after=0.94,
        conditions=tuple(
            UnderCorruption(corruption=name, strength=strength, before=0.95 - 0.1 * strength,
                            after=0.94 - 0.1 * strength - 0.01 * (strength == 3 and name == "noise"),
                            drop=0.01 * (strength == 3 and name == "noise"), low=-0.02, high=0.03)
            for name in ("noise", "blur", "contrast")
            for strength in (1, 2, 3)
        ),
    )  # fmt: skip


def made_flip() -> FlippedSample:
    """A sample that the candidate has wrong."""
    return FlippedSample(
        index=4, sample=ShownSample(picture=PIXEL), target=2, before=2, after=0, margin_before=1.25,
        margin_after=-0.5,
    )  # fmt: skip


def made_attribution() -> Attribution:
    """Of a picture of one grey pixel, in four regions."""
    return Attribution(
        index=7, rows=2, values=(1.0, 0.5, -0.25, 0.0), sample=ShownSample(picture=PIXEL)
    )


def made_report() -> Report:
    """Two candidates, both passed; int8 is the faster one and loses a hundredth."""
    facts = benchmarked({BASELINE: 4.0, FP32: 2.0, INT8: 1.0}).model_copy(
        update={
            "cold": {INT8: ColdStart(load_s=0.4, first_answer_s=0.5)},
            "scenarios": {
                INT8: {"offline": ScenarioResult(rate=2000.0, rate_low=1900.0, rate_high=2100.0,
                                                 calls=900, rounds=[[5e-4]])},
                FP32: {"offline": ScenarioResult(problem="no process answered")},
            },
        }
    )  # fmt: skip
    steps = usual(fp32=0.0, int8=0.01)
    steps.metrics[f"robustness {INT8}"] = {
        "robustness/worst_drop": 0.01, "robustness/worst_drop_low": -0.02,
        "robustness/worst_drop_high": 0.03, "robustness/mean_drop": 0.001,
    }  # fmt: skip
    steps.metrics[f"explanation {INT8}"] = {
        "explanation/agreement": 0.93, "explanation/agreement_low": 0.9,
        "explanation/agreement_high": 0.95, "explanation/top_overlap": 0.8,
    }  # fmt: skip
    asked = recipe(
        benchmark={"batch_sizes": [1, 8], "threads": 1, "scenarios": [{"kind": "offline"}]}
    )
    outcome = conclude(asked, "run1", results(asked, steps, facts))
    again = [
        c.model_copy(update={"again": Again(p50_ms=1.01, p50_ms_low=1.0, p50_ms_high=1.02)})
        for c in outcome.candidates
    ]
    outcome = outcome.model_copy(
        update={"candidates": tuple(again), "confirmed": "measured again in fresh processes"}
    )
    return Report(
        outcome=outcome,
        recipe=asked,
        timings=facts.measured,
        scenarios=facts.scenarios,
        curves={
            "train/loss": Curve.thinned([(i, 2.3 * 0.98**i) for i in range(1000)]),
            "validation/loss": Curve(steps=(500, 999), values=(0.4, 0.2)),
            "validation/accuracy": Curve(steps=(500, 999), values=(0.8, 0.9)),
        },
        sensitivity={INT8: {f"layers.{i}.conv": 10.0 + i for i in range(8)}},
        judged={
            INT8: ValidateFacts(
                flips=FlipFacts(broken=3, repaired=1, count=40, p_value=0.625, broken_samples=(4, 9, 30),
                                shown_broken=(made_flip(),)),
                groups=tuple(
                    GroupFact(group=str(i), count=10, before=0.9, after=0.7 + i / 10, low=0.4, high=0.95,
                              drop=0.2 - i / 10)
                    for i in range(3)
                ),
            )
        },
        robustness={INT8: made_robustness()},
        explained=ExplainedFacts(kind="images", shown=(made_attribution(),)),
        explanations={
            INT8: ExplanationFacts(
                kind="images", samples=16, agreements=(0.93,),
                shown=(made_attribution().model_copy(update={"sample": None}),),
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


def made_large_report(count: int = 50) -> Report:
    """So many candidates, each with flipped samples, groups, corruptions, explanations, layers that
    were tried, and pictures of noise (32 x 32 x 3), which don't compress.
    """
    small = made_report()
    (like,) = (one for one in small.outcome.candidates if one.name == INT8)
    names = [INT8, *(f"int8-{index}@onnxruntime-cpu" for index in range(1, count - 1))]
    rng = np.random.default_rng(0)
    attributions = tuple(
        Attribution(index=i, rows=8, values=tuple(rng.normal(size=64).round(3)), sample=_noise(rng))
        for i in range(4)
    )
    candidates = []
    for place, name in enumerate(names):
        slower = 1 + place / 20
        metrics = {
            key: value * slower if key.startswith("latency/p") else value
            for key, value in like.metrics.items()
        }
        metrics["quality/accuracy"] -= 0.0005 * place
        candidates.append(like.model_copy(update={"name": name, "metrics": metrics}))
    others = tuple(one for one in small.outcome.candidates if one.name != INT8)
    judged = {}
    for name in names:
        flips = small.judged[INT8].flips
        assert flips is not None
        shown = tuple(
            made_flip().model_copy(update={"index": i, "sample": _noise(rng)}) for i in range(4)
        )
        both = {"shown_broken": shown, "shown_repaired": shown}
        judged[name] = small.judged[INT8].model_copy(
            update={"flips": flips.model_copy(update=both)}
        )
    explained = small.explanations[INT8].model_copy(
        update={
            "shown": tuple(one.model_copy(update={"sample": None}) for one in attributions),
            "agreements": (0.9, 0.8, 0.95, 0.99),
        }
    )
    layers = {f"layers.{i}.conv": 10.0 + i for i in range(40)}
    return small.model_copy(
        update={
            "outcome": small.outcome.model_copy(update={"candidates": (*candidates, *others)}),
            "timings": {**small.timings, **dict.fromkeys(names, small.timings[INT8])},
            "scenarios": {**small.scenarios, **dict.fromkeys(names, small.scenarios[INT8])},
            "judged": judged,
            "sensitivity": dict.fromkeys(names, layers),
            "robustness": dict.fromkeys(names, small.robustness[INT8]),
            "explained": ExplainedFacts(kind="images", shown=attributions),
            "explanations": dict.fromkeys(names, explained),
        }
    )


def _noise(rng: np.random.Generator) -> ShownSample:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    return ShownSample(picture=base64.b64encode(file.getvalue()).decode())
