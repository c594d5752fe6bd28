"""The table of processes: what was measured of them, and "not measured" where nothing could be."""

from __future__ import annotations

from made_runs import FP32, INT8, MEASURED, benchmarked, recipe, results, usual
from prefect_hone.flows.engine.conclude import conclude
from prefect_hone.tasks.report.processes import HEADINGS, process_rows
from prefect_hone.tasks.specs.benchmark import BASELINE, ColdStart


def test_start_memory_and_energy_of_each() -> None:
    facts = benchmarked(MEASURED)
    facts.measured[INT8]["1"] = facts.measured[INT8]["1"].model_copy(
        update={"joules_per_sample": 0.0021}
    )
    facts = facts.model_copy(
        update={
            "cold": {INT8: ColdStart(load_s=0.412, first_answer_s=0.5)},
            "gpu_memory": {INT8: 3_000_000},
        }
    )
    gates = [
        {"metric": "energy.joules_per_sample", "at_most": 0.01},
        {"metric": "cold_start.first_answer_s", "at_most": 1.0},
        {"metric": "memory.gpu_bytes", "at_most": 4e6},
    ]
    asked = recipe(gates=gates)
    outcome = conclude(asked, "r1", results(asked, usual(fp32=0.0, int8=0.0), facts))
    assert outcome.winner == INT8
    other = next(c for c in outcome.candidates if c.name == FP32)
    assert [gate.value for gate in other.failed_gates] == [None] * 3, "no number passes no gate"
    rows = {row.name: dict(zip(HEADINGS, row.cells, strict=True)) for row in process_rows(outcome)}
    assert [rows[INT8][heading].text for heading in HEADINGS] == [
        "0.41", "0.50", "50.00 MB", "3.00 MB", "2.1",
    ]  # fmt: skip
    assert rows[FP32]["start to loaded (s)"].text == "not measured"
    assert next(iter(rows)) == "PyTorch eager"
    assert outcome.baseline["memory/peak_bytes"] == facts.memory[BASELINE]
