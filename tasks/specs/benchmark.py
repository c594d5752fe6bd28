"""Benchmark: what is timed, and what was measured."""

from __future__ import annotations

from pydantic import Field, JsonValue

from ...recipe.benchmark import Scenario
from ...recipe.model import ModelFactory
from ...recipe.strict import Strict
from .base import Facts, Spec

#: Names of the trained model in PyTorch, and of today's champion, among inputs of steps and what is
#: timed. A candidate's name has an @ in it.
BASELINE, CHAMPION = "baseline", "champion"

#: Share of disturbed slices up to which a machine is quiet.
_QUIET = 0.1


class BenchmarkEntry(Strict):
    """A candidate to time.

    Attributes:
        name: Of the candidate, and of its input artifact.
        loader: Import path of the function that opens it.
        environment: The isolated environment that the runtime needs, or None.
        options: Further options of the loader.
    """

    name: str
    loader: str
    environment: str | None
    options: dict[str, JsonValue] = Field(default_factory=dict)


class ChampionEntry(BenchmarkEntry):
    """Today's champion, timed with the candidates.

    Attributes:
        version: Its number in the registry.
        digest: Of all files of that version.
    """

    version: str
    digest: str


class BenchmarkSpec(Spec):
    """Attributes:
    candidates: What is timed.
    champion: Today's champion, if the recipe compares with it.
    model: The baseline's model.
    baseline: Import path of the function that opens the baseline; None: it is not timed.
    batch_sizes: Batch sizes to time (samples per call).
    threads: Of each runtime.
    seconds: For each candidate and batch size (s).
    launches: How often each process is started.
    most_launches: How often at most, if it is started until the candidates are compared; None: as
        often as `launches`.
    scenarios: Further scenarios than the single stream.
    offline_batch: Samples per call of the offline scenario.
    processor: Where it is measured.
    session: Which measurement of a run it is: the second one measures the best few again.
    """

    candidates: tuple[BenchmarkEntry, ...]
    champion: ChampionEntry | None = None
    model: ModelFactory
    baseline: str | None
    batch_sizes: tuple[int, ...]
    threads: int
    seconds: float
    launches: int
    most_launches: int | None = None
    scenarios: tuple[Scenario, ...] = ()
    offline_batch: int = 1
    processor: str
    session: int = 1


class Timing(Strict):
    """Measurements of a candidate at a batch size.

    Attributes:
        p50_ms: Median of all calls (ms), with its 95 % interval.
        p90_ms: 90th percentile (ms); None: there were too few calls to tell it.
        p99_ms: 99th percentile (ms); likewise.
        calls: Calls that were timed (a count).
        samples_per_s: By the median.
        ratio: How many times faster than the baseline, with its 95 % interval; None if that was
            not timed beside it.
        joules_per_sample: Energy that the machine took for a sample (J); None without a counter.
        rounds: Median duration of each round (s), by launch.
    """

    p50_ms: float
    p50_ms_low: float
    p50_ms_high: float
    p90_ms: float | None = None
    p99_ms: float | None = None
    calls: float
    samples_per_s: float
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    joules_per_sample: float | None = None
    rounds: list[list[float]]


class ColdStart(Strict):
    """How long a process takes that starts alone, with its files in the page cache.

    Attributes:
        load_s: From its start to the loaded artifact (s).
        first_answer_s: From its start to the first answer, at the first batch size (s).
    """

    load_s: float
    first_answer_s: float


class ScenarioResult(Strict):
    """What a candidate reached in a scenario.

    Attributes:
        rate: Samples (offline) or queries (server) a second, with the 95 % interval if it is known;
            None: see `problem`.
        p99_ms: Of the server scenario, at that rate (ms).
        calls: Calls that it was measured by (a count).
        instances: Processes side by side (a count).
        rounds: Time of a sample or query in each round (s), by launch.
        problem: Why there is no rate; None if there is one.
        in_short: The same in a word or two, for a table.
    """

    rate: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    p99_ms: float | None = None
    calls: int = 0
    instances: int = 1
    rounds: list[list[float]] = Field(default_factory=list)
    problem: str | None = None
    in_short: str | None = None


class Failure(Strict):
    """An error, in the fields of `HoneError.to_dict`."""

    type: str
    what: str
    where: str | None = None
    do: str | None = None


class OtherLoad(Strict):
    """What other work on the machine did to a measurement.

    Attributes:
        slices: Timed slices that count (a count).
        repeated: How often a slice was timed again because it was disturbed.
        disturbed: Of those that count: in which the process still waited for a processor.
    """

    slices: int = 0
    repeated: int = 0
    disturbed: int = 0

    def __add__(self, other: OtherLoad) -> OtherLoad:
        return OtherLoad(
            slices=self.slices + other.slices,
            repeated=self.repeated + other.repeated,
            disturbed=self.disturbed + other.disturbed,
        )

    def __str__(self) -> str:
        return (
            f"{self.slices:,}; {self.repeated:,} times one was timed again because other work took "
            f"processor time; {self.disturbed:,} stayed disturbed"
        )

    def told(self) -> str | None:
        """A sentence about it; None if the machine was quiet."""
        if self.disturbed <= _QUIET * self.slices:
            return None
        return (
            f"the machine was busy: in {self.disturbed} of {self.slices} timed slices other work "
            "took processor time, although they were timed again; intervals are wider for it "
            "(measure when the machine is quiet)"
        )


class BenchmarkFacts(Facts):
    """Attributes:
    measured: By candidate (and baseline) and batch size.
    memory: Peak resident memory of each process (bytes).
    gpu_memory: Memory of each process on GPUs (bytes), where it is told.
    cold: Cold start of each process.
    scenarios: What each candidate reached, by name and kind of scenario.
    failed: Candidates that failed while they were timed.
    processor: Where it was measured.
    others: What other work on the machine did to the measurement.
    """

    measured: dict[str, dict[str, Timing]] = Field(default_factory=dict)
    memory: dict[str, int] = Field(default_factory=dict)
    gpu_memory: dict[str, int] = Field(default_factory=dict)
    cold: dict[str, ColdStart] = Field(default_factory=dict)
    scenarios: dict[str, dict[str, ScenarioResult]] = Field(default_factory=dict)
    failed: dict[str, Failure] = Field(default_factory=dict)
    processor: str = ""
    others: OtherLoad = OtherLoad()

    def timing(self, name: str, batch_size: int) -> Timing:
        """Of a candidate at a batch size."""
        return self.measured[name][str(batch_size)]
