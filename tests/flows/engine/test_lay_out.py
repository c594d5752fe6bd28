"""The layout of a run: which steps there are, once each, with which inputs; without a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from prefect_hone.flows.engine.lay_out import (
    check_targets,
    lay_out,
    lay_out_candidate,
    lay_out_shared,
    lay_out_variant,
)
from prefect_hone.flows.engine.lay_out_measurements import lay_out_benchmark, lay_out_comparison
from prefect_hone.flows.engine.layout import ChampionEntrant, Laid, Layout, hand
from prefect_hone.flows.engine.surroundings import Surroundings
from prefect_hone.ray_workers.processor import Processor
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.compile import Unavailable
from prefect_hone.tasks.keys import UserCode, cache_key, lineage_key
from prefect_hone.tasks.specs.export import ExportSpec
from prefect_hone.tasks.steps import EXPORT, VALIDATE, Call

INT8 = {"kind": "quantize", "scheme": "static-int8"}
VNNI = Processor(architecture="x86_64", name="new", cores=2, features=("avx512_vnni",))
AVX2 = Processor(architecture="x86_64", name="old", cores=2, features=("avx2",))
RECIPE = {
    "name": "wine",
    "model": {"factory": "mine:model"},
    "data": {"factory": "mine:data"},
    "train": {"epochs": 2, "batch_size": 8},
    "variants": [
        {"name": "fp32"},
        {"name": "int8", "passes": [INT8]},
        {"name": "slim", "passes": [
            {"kind": "prune", "method": "channel", "ratio": 0.5, "recover_epochs": 1}, INT8]},
    ],
    "targets": ["onnxruntime-cpu", "openvino-cpu", "inductor-cpu"],
    "registry": {"model": "wine"},
}  # fmt: skip


def recipe(**changed: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changed})


def surroundings(processor: Processor = VNNI, missing: str = "") -> Surroundings:
    def availability(target: Any) -> Unavailable | None:
        gone = Unavailable(reason="it is not here", do="get it", installable=True)
        return gone if target.kind == missing else None

    return Surroundings(cores=2, processor=processor, availability=availability)


class Notebook:
    """A submitter that notes what it is handed."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.inputs: dict[str, dict[str, tuple[str, str]]] = {}
        self.after: dict[str, Sequence[str]] = {}

    def __call__(
        self, call: Call, inputs: dict[str, tuple[str, str]], after: Sequence[str] = ()
    ) -> str:
        assert call.label not in self.calls, "a step is handed over once"
        self.calls[call.label], self.inputs[call.label] = call, inputs
        self.after[call.label] = after
        return call.label


def laid_out(here: Surroundings | None = None, **changed: Any) -> tuple[Notebook, Layout[str]]:
    book = Notebook()
    return book, lay_out(recipe(**changed), here or surroundings(), book)


def test_what_candidates_share_is_computed_once() -> None:
    book, layout = laid_out()
    assert [c.name for c in layout.candidates] == [
        f"{v}@{t}" for v in ("fp32", "int8", "slim") for t in RECIPE["targets"]
    ]
    kinds = [call.step.name for call in book.calls.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "check": 1, "train": 1, "reference": 1, "export": 2, "compress": 3, "compile": 9,
        "validate": 9, "layer-parity": 2, "corrupted": 1, "robustness": 9, "explained": 1,
        "explanation": 9,
    }  # fmt: skip


def test_inputs_come_from_where_they_are_made() -> None:
    book, layout = laid_out()
    assert book.inputs["compress int8"] == {
        "graph": ("export", "graph"), "calibration": ("check", "calibration"),
    }  # fmt: skip
    assert book.inputs["compress slim (1: prune)"] == {"module": ("train", "weights")}
    assert book.inputs["export slim"]["weights"] == ("compress slim (1: prune)", "module")
    assert book.inputs["compress slim (2: quantize)"]["graph"] == ("export slim", "graph")
    assert book.inputs["compile slim@openvino-cpu"] == {
        "graph": ("compress slim (2: quantize)", "graph")
    }
    assert book.inputs["compile slim@inductor-cpu"]["module"][0] == "compress slim (1: prune)"
    assert book.after["train"] == ["check"]
    shared = {c.name: c.shared for c in layout.candidates}
    assert "compress slim (2: quantize)" in shared["slim@onnxruntime-cpu"]
    assert "compress slim (2: quantize)" not in shared["slim@inductor-cpu"], "it quantizes itself"


def test_one_candidate_can_be_laid_out_alone() -> None:
    book, asked, here = Notebook(), recipe(), surroundings()
    shared = lay_out_shared(asked, book)
    variant = lay_out_variant(asked, here, book, shared, asked.variants[1])
    candidate = lay_out_candidate(asked, here, book, shared, variant, asked.targets[0])
    assert list(book.calls) == [
        "check", "train", "reference", "export", "corrupted", "explained", "compress int8",
        "layer-parity int8", "compile int8@onnxruntime-cpu", "validate int8@onnxruntime-cpu",
        "robustness int8@onnxruntime-cpu", "explanation int8@onnxruntime-cpu",
    ]  # fmt: skip
    lay_out_benchmark(asked, here, book, shared, [candidate])
    assert book.inputs["benchmark"]["int8@onnxruntime-cpu"] == (
        "compile int8@onnxruntime-cpu", "model",
    )  # fmt: skip
    assert book.calls["benchmark"].cpus == 2
    assert book.after["benchmark"] == ["validate int8@onnxruntime-cpu"]


def test_a_target_that_does_not_run_here_has_no_steps_and_is_refused_if_it_can_be_installed() -> (
    None
):
    here = surroundings(missing="openvino-cpu")
    book, layout = laid_out(here)
    gone = [c for c in layout.candidates if c.unavailable is not None]
    assert {c.target.kind for c in gone} == {"openvino-cpu"}
    assert all(c.compiled is None and c.validated is None for c in gone)
    assert not [label for label in book.calls if label.endswith("openvino-cpu")]
    with pytest.raises(InputError, match="it is not here") as caught:
        check_targets(recipe(), here)
    assert caught.value.where == "targets.1"
    assert caught.value.do == "get it"


_OF_OUTPUTS = ("validate", "layer-parity", "robustness", "explanation")


def test_the_processor_decides_bits_and_is_in_the_keys_of_what_it_changes() -> None:
    new, _ = laid_out(surroundings(VNNI))
    old, _ = laid_out(surroundings(AVX2))
    assert new.calls["compress int8"].spec.compression.reduce_range is False
    assert old.calls["compress int8"].spec.compression.reduce_range is True
    changed = {
        label
        for label, call in new.calls.items()
        if cache_key(call, {}, UserCode()) != cache_key(old.calls[label], {}, UserCode())
    }
    assert changed == {
        "compress int8", "compress slim (2: quantize)",
        *(label for label in new.calls if label.startswith(_OF_OUTPUTS)),
        *(label for label in new.calls if label.endswith("inductor-cpu")),
    }  # fmt: skip


def test_placement_and_patience_are_not_part_of_the_work() -> None:
    def calls(**train: Any) -> dict[str, Call]:
        return laid_out(train={**RECIPE["train"], **train})[0].calls

    def key(call: Call) -> str:
        return cache_key(call, {}, UserCode())

    def lineage(call: Call) -> str:
        return lineage_key(call, {}, UserCode())

    plain, patient = calls(), calls(max_failures=9, launcher="ray-train")
    spread, longer = calls(mesh={"data": 2}), calls(epochs=3)
    for label in ("train", "compress slim (1: prune)"):
        assert key(plain[label]) == key(patient[label])
        assert key(plain[label]) != key(spread[label])
        assert lineage(plain[label]) == lineage(spread[label])
        assert lineage(plain[label]) != lineage(longer[label])
        assert patient[label].spec.train.max_failures == 9, "the worker is told all the same"
    assert key(plain["check"]) == key(longer["check"])
    assert key(plain["check"]) != key(spread["check"])


def test_names_of_variants_are_in_no_key() -> None:
    passes = RECIPE["variants"][2]["passes"]
    book, _ = laid_out(variants=[{"name": n, "passes": passes} for n in ("a", "b")])
    one, other = (book.calls[f"compress {n} (1: prune)"] for n in ("a", "b"))
    assert cache_key(one, {}, UserCode()) == cache_key(other, {}, UserCode())


def test_a_wrong_name_fails_when_it_is_laid_out() -> None:
    call = EXPORT.call("export", ExportSpec(model=recipe().model))
    with pytest.raises(ValueError, match=r"export takes \['inputs', 'weights'\], not \['model'\]"):
        hand(Notebook(), call, {"model": ("train", "weights")})
    with pytest.raises(ValueError, match="export has no output 'grph'"):
        Laid(call, "export").output("grph")


def test_a_step_that_trains_reserves_nothing_itself() -> None:
    book, _ = laid_out()
    assert book.calls["train"].starts_workers
    assert book.calls["compress slim (1: prune)"].starts_workers
    assert not book.calls["compress int8"].starts_workers
    still, _ = laid_out(train={"epochs": 0, "batch_size": 8})
    assert not still.calls["train"].starts_workers
    assert VALIDATE.spec.__name__ == "ValidateSpec"


def entrant(version: str = "3", digest: str = "d3") -> ChampionEntrant[str]:
    return ChampionEntrant(
        version=version, digest=digest, runtime="onnxruntime", options={}, gpu=False,
        model=("registered", "model"),
    )  # fmt: skip


def measured_beside(champion: ChampionEntrant[str] | None) -> Notebook:
    book, asked, here = Notebook(), recipe(), surroundings()
    layout = lay_out(asked, here, book, champion)
    if champion is not None and layout.champion is not None:
        lay_out_comparison(asked, book, champion, layout.champion, layout.candidates)
    lay_out_benchmark(asked, here, book, layout.shared, layout.candidates, champion)
    return book


def test_todays_champion_is_validated_compared_and_timed_with_the_candidates() -> None:
    book = measured_beside(entrant())
    assert book.inputs["validate champion"] == {
        "weights": ("train", "weights"), "model": ("registered", "model"),
        "statistics": ("reference", "statistics"), "groups": ("reference", "groups"),
    }  # fmt: skip
    compared = book.inputs["compare with champion"]
    assert compared["champion"] == ("validate champion", "statistics")
    assert compared["int8@openvino-cpu"] == ("validate int8@openvino-cpu", "statistics")
    assert len(compared) == 10
    assert book.inputs["benchmark"]["champion"] == ("registered", "model")
    assert book.calls["benchmark"].spec.champion.version == "3"


def test_a_new_champion_is_measured_again_and_nothing_else() -> None:
    def keys(book: Notebook) -> dict[str, str]:
        return {label: cache_key(call, {}, UserCode()) for label, call in book.calls.items()}

    third, fourth, none = (keys(measured_beside(c)) for c in (entrant(), entrant("4", "d4"), None))
    changed = {label for label in third if third[label] != fourth[label]}
    assert changed == {"compare with champion", "benchmark"}
    assert {n for n in none if none[n] != third[n]} == {"benchmark"}


def test_a_champion_of_the_same_bytes_has_a_candidates_validation() -> None:
    calls = measured_beside(entrant()).calls
    one, other = calls["validate champion"], calls["validate int8@onnxruntime-cpu"]
    assert cache_key(one, {}, UserCode()) == cache_key(other, {}, UserCode())
