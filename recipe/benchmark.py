"""How candidates are timed: always as a single stream of calls, and in further scenarios if asked.

The scenarios have MLPerf Inference's names (https://arxiv.org/abs/1911.02549, section 3.2).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .strict import Strict, mistake

_MOST_INSTANCES = 256
#: A difference in speed of this share should be told; where it is not, the machine is too noisy.
SHOULD_BE_TOLD = 0.05
#: Who took so much longer (a share) than the fastest loses to it, though it is not certain.
NO_TIE = 0.25


class _Scenario(Strict):
    """A scenario beside the single stream."""

    instances: int = Field(
        1,
        ge=1,
        le=_MOST_INSTANCES,
        description="Processes with the candidate side by side, each with benchmark.threads "
        "threads (a count).",
    )


class Offline(_Scenario):
    """All samples are there at once: how many are answered in a second?"""

    kind: Literal["offline"] = Field(description="The scenario.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Samples per call, one of benchmark.batch_sizes; none: the largest of them.",
    )


class Server(_Scenario):
    """Queries of one sample arrive at random (a Poisson process) and are answered in order of
    arrival: what is the highest rate at which the 99th percentile of their latency, waiting
    included, stays within a bound?
    """

    kind: Literal["server"] = Field(description="The scenario.")
    p99_ms: float = Field(
        gt=0,
        le=3_600_000,
        description="Bound of the 99th percentile of latency, from a query's arrival to its "
        "answer (ms).",
    )
    seconds: float = Field(
        10.0, gt=0, le=3600, description="Time to find the rate of a candidate in (s)."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the arrivals.")


Scenario = Annotated[Offline | Server, Field(discriminator="kind")]
#: What each scenario measures of a candidate, by its kind; higher is better.
RATES = {"offline": "offline.samples_per_s", "server": "server.queries_per_s"}


class Benchmark(Strict):
    """How candidates are timed."""

    batch_sizes: tuple[int, ...] = Field(
        (1,), min_length=1, description="Batch sizes to time (samples per call)."
    )
    threads: int = Field(
        1,
        ge=1,
        description="Threads per runtime; on a shared machine use one fewer than its cores.",
    )
    seconds: float = Field(
        2.0, gt=0, le=600, description="Timing budget per candidate and batch size (s)."
    )
    launches: int = Field(
        3,
        ge=2,
        le=8,
        description="Process launches per candidate (a count): memory placement changes speed by "
        "1 to 3 percent per launch. Fewer are quicker, with wider intervals.",
    )
    most_launches: int = Field(
        12,
        ge=2,
        le=16,
        description="Process launches of the best few when they are measured again, at most (a "
        "count): until then those are launched again that can't be told apart, nor are within 5 % "
        "of each other.",
    )
    confirm: bool = Field(
        True,
        description="Whether the best few candidates (at most 3) are measured again in fresh "
        "processes before one wins, if they are near each other.",
    )
    scenarios: tuple[Scenario, ...] = Field(
        (), description="Scenarios to measure beside the single stream, each kind at most once."
    )

    @field_validator("batch_sizes")
    @classmethod
    def _sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value) or len(set(value)) != len(value):
            raise mistake("batch_sizes", "batch sizes must be at least 1, without duplicates")
        return value

    @model_validator(mode="after")
    def _scenarios(self) -> Benchmark:
        kinds = [scenario.kind for scenario in self.scenarios]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise mistake("scenarios", "the scenario '{kind}' is given twice", kind=kind)
        if "server" in kinds and 1 not in self.batch_sizes:
            raise mistake(
                "server",
                "the scenario 'server' answers one sample at a time: add 1 to batch_sizes {sizes}",
                sizes=list(self.batch_sizes),
            )
        offline = self.scenario("offline")
        if isinstance(offline, Offline) and self.offline_batch(offline) not in self.batch_sizes:
            raise mistake(
                "offline",
                "the scenario 'offline' asks for batch size {size}, which is not one of "
                "batch_sizes {sizes}",
                size=offline.batch_size,
                sizes=list(self.batch_sizes),
            )
        return self

    def scenario(self, kind: str | None) -> Offline | Server | None:
        """The scenario of a kind, if it is asked for."""
        return next((scenario for scenario in self.scenarios if scenario.kind == kind), None)

    def offline_batch(self, scenario: Offline) -> int:
        """Samples per call of the offline scenario."""
        return scenario.batch_size or max(self.batch_sizes)
