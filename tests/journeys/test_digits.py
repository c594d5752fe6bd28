"""The bundled digits recipe, as a person runs it; the tests of this file go on from one run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from imports import HEAVY, imported_in, without_imports
from prefect_hone.tasks.tracking.registered_bytes import verify

pytestmark = pytest.mark.slow

#: The recipe as it is, timed for less long: these tests ask what is told, not how exactly.
DIGITS = ("digits", "--set", "benchmark.seconds=0.4", "--set", "benchmark.launches=2",
    "--set", "benchmark.most_launches=2",)  # fmt: skip


@pytest.fixture(scope="module")
def cold(shared_hone):
    """The first run: everything is computed."""
    return shared_hone.json("run", *DIGITS)


def client(hone) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(hone.tracking)


def candidate(outcome: dict, name: str) -> dict:
    return next(c for c in outcome["candidates"] if c["name"] == name)


def test_every_candidate_is_measured_and_int8_wins(cold: dict) -> None:
    assert cold["recipe"] == "digits"
    assert len(cold["candidates"]) == 6
    assert {c["status"] for c in cold["candidates"]} == {"passed"}
    assert cold["champion"]["candidate"].startswith("int8")
    fp32 = candidate(cold, "fp32@onnxruntime-cpu")
    assert fp32["metrics"]["quality/accuracy"] >= 0.97
    assert fp32["metrics"]["parity/sqnr_db"] > 80
    for entry in cold["candidates"]:
        metrics = entry["metrics"]
        assert (
            metrics["latency/ratio_low"]
            <= metrics["latency/ratio"]
            <= metrics["latency/ratio_high"]
        )
        assert metrics["latency/p50_ms"] <= metrics["latency/p90_ms"]
        # A slow machine makes too few calls in the little time that these tests give it.
        assert metrics["latency/p90_ms"] <= metrics.get("latency/p99_ms", math.inf)
        assert (
            metrics["throughput/samples_per_s_batch_32"] > metrics["throughput/samples_per_s"] / 4
        )
        assert metrics["memory/peak_bytes"] > 1e7
        assert entry["artifact"]["bytes"] == metrics["size/bytes"]
        assert [g["passed"] for g in entry["gates"]] == [True, True]
    assert {"check", "train", "export", "benchmark"} <= set(cold["seconds"])


def served_accuracy(hone) -> float:
    """Accuracy on the test split of the champion, in a fresh process that has only MLflow."""
    from prefect_hone.recipe.examples.digits.digits_data import digits

    test = digits().test
    file = hone.home / "test.npz"
    np.savez(
        file,
        x=np.stack([test[i][0].numpy() for i in range(len(test))]),
        y=np.array([int(test[i][1]) for i in range(len(test))]),
    )
    code = (
        "import sys, mlflow, numpy as np\n"
        f"mlflow.set_tracking_uri({hone.tracking!r})\n"
        "model = mlflow.pyfunc.load_model('models:/digits@champion')\n"
        f"data = np.load({str(file)!r})\n"
        "right = (model.predict(data['x']).argmax(1) == data['y']).mean()\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules\n"
        "print(right)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "MLFLOW_LOGGING_LEVEL": "ERROR"}, timeout=480,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_champion_is_served_in_a_fresh_process(cold: dict, shared_hone) -> None:
    measured = candidate(cold, cold["champion"]["candidate"])["metrics"]["quality/accuracy"]
    assert served_accuracy(shared_hone) == pytest.approx(measured, abs=1e-9)


def test_the_version_says_where_it_comes_from_and_holds_no_pickle(cold: dict, shared_hone) -> None:
    champion = cold["champion"]
    version = client(shared_hone).get_model_version("digits", champion["version"])
    entry = candidate(cold, champion["candidate"])
    assert version.tags["hone.sha256"] == entry["artifact"]["sha256"]
    assert version.tags["hone.recipe_digest"] == cold["recipe_digest"]
    assert version.tags["hone.parent_run"] == cold["run_id"]
    assert version.tags["hone.source_commit"]
    assert all(gate["passed"] for gate in json.loads(version.tags["hone.verdict"]))
    mlflow.set_tracking_uri(shared_hone.tracking)
    place = f"models:/digits/{champion['version']}"
    held = mlflow.artifacts.download_artifacts(place, dst_path=str(shared_hone.home / "held"))
    folder = Path(held)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not {n for n in names if n.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin.index"))}
    assert {"input_example.json", "proof.json", "input-0.npy", "output.npy"} <= names
    verdict = verify(shared_hone.tracking, "digits", champion["version"])
    assert verdict.passes
    assert verdict.proof is not None
    assert verdict.proof.outcome == "proven", verdict.sentence
    assert "signature" in (folder / "MLmodel").read_text()


def test_mlflow_has_everything(cold: dict, shared_hone) -> None:
    found = client(shared_hone)
    parent = found.get_run(cold["run_id"])
    assert parent.info.status == "FINISHED"
    names = {item.path for item in found.list_artifacts(cold["run_id"])}
    assert {"recipe.yaml", "outcome.json", "outcome.md"} <= names
    children = found.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{cold['run_id']}'"
    )
    assert {run.info.run_name for run in children} == {
        "train", *(c["name"] for c in cold["candidates"])
    }  # fmt: skip
    assert {run.info.status for run in children} == {"FINISHED"}
    train = next(run for run in children if run.info.run_name == "train")
    for name in ("train/loss", "train/learning_rate", "validation/accuracy"):
        assert len(found.get_metric_history(train.info.run_id, name)) >= 8, name
    assert "system/cpu_utilization_percentage" in train.data.metrics
    assert train.inputs.dataset_inputs[0].dataset.name == "sklearn-digits"
    assert train.data.params["train/optimizer/name"] == "adamw"
    for run in children:
        if run is not train:
            assert run.outputs.model_outputs, f"{run.info.run_name} is a LoggedModel"
            assert "latency/p50_ms" in run.data.metrics


def test_the_same_recipe_again_does_nothing_twice(cold: dict, shared_hone) -> None:
    before = client(shared_hone).search_model_versions("name = 'digits'")
    again = shared_hone.run("run", *DIGITS, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0
    assert not imported_in(again.stderr) & {*HEAVY}
    assert without_imports(again.stderr) == ""
    assert "done in" not in again.stdout, "nothing is computed"
    assert again.stdout.count("cached") >= len(cold["seconds"])
    assert len(client(shared_hone).search_model_versions("name = 'digits'")) == len(before)
    plan = shared_hone.json("plan", *DIGITS)
    assert all(step["cached"] for step in plan["steps"])
    for text in (  # the table is what a person reads
        "PyTorch eager (baseline)", "× eager", "★ int8", "2/2 passed",
        f"Champion: {cold['champion']['candidate']}", 'load_model("models:/digits@champion")',
        "mlflow ui --backend-store-uri", "Prefect",
    ):  # fmt: skip
        assert text in again.stdout, text


@pytest.mark.nightly
def test_changed_gates_decide_anew_without_measuring(cold: dict, shared_hone) -> None:
    gate = "gates=[{metric: size.bytes, at_most: 400000}]"
    outcome = shared_hone.json("run", *DIGITS, "--set", gate)
    # Others may be the best few now, which are measured once more.
    assert set(outcome["seconds"]) <= {"benchmark again"}
    passed = {c["name"] for c in outcome["candidates"] if c["status"] == "passed"}
    variants, targets = ("int8", "int8-clipped"), ("onnxruntime-cpu", "openvino-cpu")
    assert passed == {f"{variant}@{target}" for variant in variants for target in targets}


def test_if_nothing_passes_the_champion_is_untouched(cold: dict, shared_hone) -> None:
    before = client(shared_hone).get_model_version_by_alias("digits", "champion").version
    gate = "gates=[{metric: latency.p50_ms, at_most: 0.000001}]"
    told = shared_hone.run("run", *DIGITS, "--set", gate)
    assert told.returncode == 3, told.stdout + told.stderr
    assert "No champion" in told.stdout
    assert "done in" not in told.stdout, "nothing is computed"
    assert told.stdout.count("failed: latency.p50_ms") == len(cold["candidates"])
    found = client(shared_hone)
    assert found.get_model_version_by_alias("digits", "champion").version == before
    runs = found.search_runs(
        [found.get_experiment_by_name("digits").experiment_id],
        order_by=["attributes.start_time DESC"],
    )
    last = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    mlflow.set_tracking_uri(shared_hone.tracking)
    outcome = mlflow.artifacts.load_dict(f"runs:/{last.info.run_id}/outcome.json")
    assert {c["status"] for c in outcome["candidates"]} == {"gated"}


def test_plan_says_what_would_be_computed(cold: dict, shared_hone) -> None:
    def computed(*options: str) -> set[str]:
        done = shared_hone.answer("plan", *DIGITS, *options, "--json")
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        return {step["step"].split(" ")[0] for step in plan["steps"] if not step["cached"]}

    assert computed() == set()
    assert computed("--set", "gates=[]") == set()
    assert computed("--set", "select={minimize: size.bytes}") == set()
    assert computed("--set", "benchmark.seconds=0.5") == {"benchmark"}
    of_int8 = {
        "compress", "layer-parity", "compile", "validate", "robustness", "explanation", "benchmark"
    }  # fmt: skip
    assert computed("--set", "variants.int8.passes.0.samples=64") == of_int8
    assert computed("--set", "train.epochs=3") == of_int8 | {
        "train", "reference", "export", "corrupted", "explained"
    }  # fmt: skip


#: That the candidate is compared with the champion of the day; no machine fails them.
BESIDE_THE_CHAMPION = (
    "gates=[{metric: latency.ratio_to_champion, at_least: 0.01}, "
    "{metric: quality.drop_from_champion, at_most: 0.1, confidence: 0.95}]"
)


#: As in the recipe, but one.
TWO = "[{name: fp32}, {name: int8, passes: [{kind: quantize, scheme: static-int8}]}]"


def test_a_corrupted_artifact_is_made_anew_and_the_other_runtime_is_served_too(
    cold: dict, shared_hone
) -> None:
    today = client(shared_hone).get_model_version_by_alias("digits", "champion")
    won = cold["champion"]["candidate"].partition("@")[2]
    (other,) = {"onnxruntime-cpu", "openvino-cpu"} - {won}
    name = f"int8@{other}"
    folder = Path(candidate(cold, name)["artifact"]["uri"])
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(b"\0" * path.stat().st_size)

    outcome = shared_hone.json(
        "run", *DIGITS, "--set", f"targets=[{other}]", "--set", f"variants={TWO}",
        "--set", "benchmark={batch_sizes: [1], seconds: 0.2, launches: 2, most_launches: 2}",
        "--set", BESIDE_THE_CHAMPION,
    )  # fmt: skip

    assert (outcome["today"]["version"], outcome["today"]["problem"]) == (str(today.version), None)
    assert outcome["today"]["candidate"] == cold["champion"]["candidate"]
    assert outcome["today"]["metrics"]["latency/p50_ms"] > 0, "it was timed with the candidates"
    for beside in outcome["candidates"]:
        assert beside["metrics"]["latency/ratio_to_champion_low"] > 0
        assert abs(beside["metrics"]["quality/drop_from_champion"]) < 0.1
        assert [gate["champion"] for gate in beside["gates"]] == [str(today.version)] * 2
    told = shared_hone.run("why", outcome["run_id"], name).stdout
    assert f"the champion of the day, version {today.version}" in told
    assert "latency.ratio_to_champion is" in told
    assert f"compile {name}" in outcome["seconds"]
    assert not {"train", "export", "compress int8"} & set(outcome["seconds"])
    assert any("missing or corrupted" in note for note in outcome["notes"]), outcome["notes"]
    made = candidate(outcome, name)
    assert made["status"] == "passed"
    assert made["metrics"]["size/bytes"] == made["artifact"]["bytes"]
    assert (Path(made["artifact"]["uri"]) / path.name).read_bytes().strip(b"\0")
    champion = outcome["champion"]["candidate"]
    assert champion.endswith(other)
    measured = candidate(outcome, champion)["metrics"]["quality/accuracy"]
    assert served_accuracy(shared_hone) == pytest.approx(measured, abs=1e-9)
