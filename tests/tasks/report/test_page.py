"""The report's page: everything is there, escaped, without a network, and small."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from made_reports import made_attribution, made_report
from made_runs import FP32, INT8
from prefect_hone.recipe.schema import Recipe
from prefect_hone.tasks.report.alike import layers_of, sensitivity_of
from prefect_hone.tasks.report.card import model_card
from prefect_hone.tasks.report.comparison import compared_rows, comparison, recipe_difference
from prefect_hone.tasks.report.contents import Report
from prefect_hone.tasks.report.figures import frontier
from prefect_hone.tasks.report.page import candidate_rows, gate_rows, page, timing_rows
from prefect_hone.tasks.report.pictures import Pictures, draw, draw_pareto
from prefect_hone.tasks.specs.explanation import ExplainedFacts
from prefect_hone.tasks.specs.layer_parity import LayerParity, LayerParityFacts
from prefect_hone.tasks.specs.shown import ShownSample

_VOID = {"meta", "br", "link", "img", "input", "hr"}


class _Reader(HTMLParser):
    """Checks that elements nest, and notes ids, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if "id" in said:
            self.ids.append(str(said["id"]))
        self.links += [str(said[name]) for name in ("href", "src", "xlink:href") if name in said]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> was not opened"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


@pytest.fixture(scope="module")
def pictures(report: Report) -> Pictures:
    return draw(report)


def test_the_page_is_whole_and_needs_no_network(report: Report, pictures: Pictures) -> None:
    text = page(report, pictures)
    read = _Reader(text)
    assert read.open == []
    assert len(read.ids) == len(set(read.ids)), "ids of pictures must not collide"
    anchors = {link[1:] for link in read.links if link.startswith("#")}
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in read.links)
    assert anchors <= set(read.ids)
    assert not re.search(r'(src|href)="http|url\(http|@import', text)
    assert len(text) < 500_000
    said = " ".join(read.words)
    for name in (
        FP32,
        INT8,
        "quality.drop ≤ 0.02",
        "layers.0.conv",
        "too sensitive",
        report.outcome.run_id,
    ):
        assert name in said


def test_what_users_wrote_is_escaped(report: Report) -> None:
    hostile = report.model_copy(
        update={
            "outcome": report.outcome.model_copy(update={"notes": ("<script>alert(1)</script>",)})
        }
    )
    text = page(hostile, Pictures())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_pictures_take_their_colors_from_the_page(pictures: Pictures) -> None:
    assert set(pictures.plain) == {"pareto", "rounds", "training", "robustness"}
    assert set(pictures.sensitivity) == {INT8}
    assert set(pictures.groups) == {INT8}
    for picture in (*pictures.plain.values(), *pictures.sensitivity.values()):
        assert "var(--ink)" in picture or "var(--dim)" in picture
        assert not re.search(r"#0[1-7]0[1-7]0[1-7]\b", picture)
        assert 'role="img"' in picture
    assert f"<title>{INT8}: " in pictures.plain["pareto"], "a point says what it is"


def test_drawn_twice_is_the_same(report: Report, pictures: Pictures) -> None:
    assert draw(report) == pictures


def test_the_pareto_picture_as_png(report: Report) -> None:
    picture = draw_pareto(report)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_layers_that_are_the_same_are_drawn_once(report: Report) -> None:
    """Candidates of one variant have the same graph."""
    facts = LayerParityFacts(layers=(LayerParity(layer="conv", sqnr_db=20.0, before_db=30.0),))
    other = LayerParityFacts(
        layers=(LayerParity(layer="conv", sqnr_db=9.0, before_db=30.0),), departs_at="conv"
    )
    shown = report.model_copy(update={"layers": {INT8: facts, FP32: facts, "thin": other}})
    assert layers_of(shown) == {INT8: f"{INT8}, {FP32}", "thin": "thin"}


def test_rows_can_be_sorted_by_numbers(report: Report) -> None:
    rows = candidate_rows(report)
    assert [row.name for row in rows] == ["PyTorch eager (trained model)", INT8, FP32]
    assert [row.kind for row in rows] == ["baseline", "winner", "passed"]
    latency = [row.cells[2].sort for row in rows]
    assert latency[1] is not None
    assert latency[2] is not None
    assert latency[1] < latency[2]


def test_gates_show_value_and_margin(report: Report) -> None:
    (first, _) = gate_rows(report.outcome)
    assert first.name == INT8
    assert first.cells[0].text == "✓ 0.01 (+0.01)"
    assert first.cells[0].kind == "passed"


def test_every_batch_size_is_in_the_timings(report: Report) -> None:
    rows = timing_rows(report)
    assert len(rows) == 3 * 2
    assert {row.cells[0].text for row in rows} == {"1", "8"}


def test_nothing_measured_is_told(report: Report) -> None:
    empty = report.outcome.model_copy(update={"candidates": (), "winner": None, "baseline": {}})
    bare = Report(outcome=empty, recipe=report.recipe, data=report.data, parameters=1, made="today")
    drawn = draw(bare)
    assert drawn == Pictures()
    assert draw_pareto(bare) is None
    text = page(bare, drawn)
    assert "Nothing was timed." in text
    assert "No champion" in text
    assert "No champion" in model_card(bare)


@pytest.mark.parametrize(
    ("points", "higher", "best"),
    [
        ([(1, 0.5), (2, 0.9), (3, 0.8)], True, [(1, 0.5), (2, 0.9)]),
        ([(1, 0.5), (1, 0.6)], True, [(1, 0.6)]),
        ([(1, 3.0), (2, 1.0), (3, 2.0)], False, [(1, 3.0), (2, 1.0)]),
    ],
)
def test_frontier(
    points: list[tuple[float, float]], higher: bool, best: list[tuple[float, float]]
) -> None:
    assert frontier(points, higher) == best


def test_the_card_says_what_a_reader_must_know(report: Report) -> None:
    card = model_card(report)
    for said in (
        "# Model card: wine", "`quantize`", "scheme static-int8", "mine:data", "quality.drop ≤ 0.02: passed",
        "The test split has 40 samples", "was not looked at", "`layers.0.conv` (too sensitive)", "sha256",
    ):  # fmt: skip
        assert said in card


def test_two_runs_compared(report: Report) -> None:
    recipe = Recipe.model_validate(
        {**report.recipe.model_dump(mode="json"), "train": {"epochs": 9, "batch_size": 8}}
    )
    other = report.model_copy(
        update={
            "recipe": recipe,
            "environment": {"hone": "0.2"},
            "outcome": report.outcome.model_copy(
                update={"candidates": report.outcome.candidates[:1]}
            ),
        }
    )
    rows = compared_rows(report, other)
    assert [row.name for row in rows] == [FP32, INT8]
    assert rows[1].cells[-1].text == "not in this run"
    assert "-  epochs: 2" in recipe_difference(report, other)
    text = comparison(report, other)
    assert _Reader(text).open == []
    assert "not timed side by side" in text


def test_samples_are_shown_where_they_flipped_and_were_explained(
    report: Report, pictures: Pictures
) -> None:
    said = " ".join(_Reader(page(report, pictures)).words)
    for words in ("sample 4, class 2", "answer 2 → 0", "margin +1.25 → -0.5"):
        assert words in said
    for words in ("sample 7, agreement 0.93", "Under corrupted inputs", "strong noise"):
        assert words in said


def test_the_picture_says_where_better_is(report: Report, pictures: Pictures) -> None:
    assert "Up and to the left is better" in page(report, pictures)
    quality = report.recipe.quality.model_copy(update={"metric": "bits_per_token"})
    recipe = report.recipe.model_copy(update={"quality": quality})
    falls = report.model_copy(update={"recipe": recipe})
    assert "Down and to the left is better" in page(falls, pictures)


def test_what_was_not_looked_at_has_a_section(report: Report, pictures: Pictures) -> None:
    assert "Not looked at" not in page(report, pictures)
    told = report.outcome.model_copy(update={"not_looked_at": ("flips (they are off)",)})
    plain = report.model_copy(
        update={"outcome": told, "robustness": {}, "explanations": {}, "explained": None}
    )
    assert "flips (they are off)" in page(plain, draw(plain))
    assert "robustness" not in draw(plain).plain


def test_parts_of_a_text_are_bars(report: Report, pictures: Pictures) -> None:
    before = made_attribution().model_copy(
        update={"rows": 1, "names": ("0: <b>", "1: 8", "2: 9", "3: 1"),
                "sample": ShownSample(text="<b> 8 9 1")}
    )  # fmt: skip
    found = report.explanations[INT8].model_copy(
        update={"shown": (before.model_copy(update={"sample": None, "values": (0.9, 0, 0, -1.0)}),)}
    )
    texts = report.model_copy(
        update={
            "explained": ExplainedFacts(kind="tokens", shown=(before,)),
            "explanations": {INT8: found},
        }
    )
    text = page(texts, pictures)
    assert "<b> 8" not in text
    words = [word for word in _Reader(text).words if word]
    assert words[words.index("0: <b>") :][:3] == ["0: <b>", "+1.00", "+0.90"]


def test_the_sensitivity_of_candidates_of_a_variant_is_drawn_once(report: Report) -> None:
    layers = report.sensitivity[INT8]
    both = report.model_copy(
        update={
            "sensitivity": {INT8: layers, "int8@openvino-cpu": layers, FP32: layers},
            "left_alone": {FP32: {"layers.0.conv": "too sensitive"}},
        }
    )
    assert sensitivity_of(both) == {INT8: f"{INT8}, int8@openvino-cpu", FP32: FP32}
