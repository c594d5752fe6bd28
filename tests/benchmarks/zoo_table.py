"""docs/zoo.md from the rows of the zoo."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
#: Everything from this line on is kept as it is.
_KEPT = "## Lengths that vary"
#: Outputs of int8 that are near those of float32 (dB).
_NEAR = 10
_RUNTIMES = ("onnxruntime", "openvino")
#: Names of architectures in a cell; more are counted.
_MOST_NAMES = 8
Row = dict[str, Any]


class Stops:
    """Sentences under the table, each with a number."""

    def __init__(self) -> None:
        self.said: dict[str, int] = {}

    def cell(self, said: str | None, ok: str) -> str:
        """What stands in the table for how far something went."""
        if said is None:
            return ""
        if said == "ok":
            return ok
        number = self.number(said)
        return f"{'unchanged' if said.startswith('NothingChanged') else 'stops'} ({number})"

    def number(self, said: str) -> int:
        """The number of a sentence."""
        text = re.sub(r"^(HoneError|InputError|StepFailed|StepCrashed|NothingChanged): ", "", said)
        text = " ".join(text.split()).replace("|", "/")[:400]
        return self.said.setdefault(text, len(self.said) + 1)


def write(rows: Iterable[Row]) -> None:
    """Replace the tables of the page."""
    import zoo_models

    by_name: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_name.setdefault(row["name"], {})[row["stage"]] = row
    found = {name: by_name[name] for name in zoo_models.NAMES if name in by_name}
    kept = PAGE.read_text().partition(_KEPT)[2]
    PAGE.write_text("\n".join(_page(found, len(zoo_models.NAMES))) + f"\n\n{_KEPT}{kept}")


def _page(found: dict[str, dict[str, Row]], all_names: int) -> list[str]:
    stops = Stops()
    lines = [_line(name, stages, stops) for name, stages in found.items()]
    return [
        "# The zoo",
        "",
        f"`python tests/benchmarks/zoo.py` takes {all_names} small architectures with random weights (written by "
        "hand, of transformers, timm and torchvision) through Hone's steps, and beside them through the tools that "
        "Hone uses, by hand. Each stage of each architecture is a row of `tests/benchmarks/zoo_rows.jsonl`, from "
        "which `--write` makes this page. An empty cell was not run; a commit after a name is an earlier one, at which "
        "export and runtimes of that row were run.",
        "",
        *_counts(found),
        "",
        "Columns: `torch.onnx` is `torch.onnx.export` and ONNX Runtime by hand, for another batch size than the one "
        "that was exported. ONNX Runtime and OpenVINO: SQNR of the outputs (dB); it stops where the largest "
        "difference is over a thousandth of the largest output. int8: SQNR of static-int8 with Hone's defaults on "
        "ONNX Runtime and OpenVINO (in brackets ONNX Runtime's quantizer and NNCF by hand). Pruned: parameters left "
        "of half of the channels (in brackets torch-pruning by hand). 2 workers: largest difference of a weight from "
        "one worker's after an epoch.",
        "",
        "| architecture | torch.onnx | export | ONNX Runtime | OpenVINO | int8 | pruned | 2 workers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *lines,
        "",
        *_schemes(found, stops),
        *_retrained(found, stops),
        *(f"{number}. `{text}`" for text, number in stops.said.items()),
    ]  # fmt: skip


def _schemes(found: dict[str, dict[str, Row]], stops: Stops) -> list[str]:
    """The table of the other schemes, by scheme."""
    rows = {name: stages["schemes"] for name, stages in found.items() if "schemes" in stages}
    ran = {name: row["schemes"] for name, row in rows.items() if "stopped" not in row}
    if not ran:
        return []
    died = [f"{n} ({stops.number(rows[n]['stopped'])})" for n in rows if n not in ran]
    lines = [
        f"Of {len(rows)} architectures that were taken through the other schemes"
        + (f" ({', '.join(died)} ended on the way)" if died else "")
        + f", so many run on a runtime, in brackets those with {_NEAR} dB or more. Low rank keeps half of the "
        "weights, and random weights have no low rank.",
        "",
        "| scheme | ONNX Runtime | OpenVINO | nothing to do | stops |",
        "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for scheme in dict.fromkeys(scheme for made in ran.values() for scheme in made):
        made = {name: row[scheme] for name, row in ran.items() if scheme in row}
        cells = []
        for runtime in _RUNTIMES:
            runs = [r for r in made.values() if r.get(runtime) == "ok"]
            near = sum(r.get(f"{runtime}_db", 0) >= _NEAR for r in runs)
            cells.append(f"{len(runs)} ({near})")
        said = {name: [str(r.get(t)) for t in _RUNTIMES] for name, r in made.items()}
        idle = sum(all(t.startswith("NothingChanged") for t in texts) for texts in said.values())
        lines.append(f"| {scheme} | {' | '.join(cells)} | {idle} | {_who_stops(said, stops)} |")
    return [*lines, ""]


def _retrained(found: dict[str, dict[str, Row]], stops: Stops) -> list[str]:
    """The table of the passes that train, by pass."""
    rows = {name: stages["retrain"] for name, stages in found.items() if "retrain" in stages}
    if not rows:
        return []
    lines = [
        f"Passes that train for an epoch, on {len(rows)} architectures: quantization-aware training, half of the "
        "channels recovered with the whole model as teacher, and distillation into the same architecture.",
        "",
        "| pass | trains | nothing to do | stops |",
        "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for step in ("qat", "recover", "distill"):
        said = {
            name: [row["stopped"] if "stopped" in row else row["retrain"][step]["said"]]
            for name, row in rows.items()
        }
        trains = sum(texts == ["ok"] for texts in said.values())
        idle = sum(texts[0].startswith("NothingChanged") for texts in said.values())
        lines.append(f"| {step} | {trains} | {idle} | {_who_stops(said, stops)} |")
    return [*lines, ""]


def _who_stops(said: dict[str, list[str]], stops: Stops) -> str:
    """Names of what stops, by the number of the sentence."""
    by_number: dict[int, list[str]] = {}
    for name, texts in said.items():
        for text in dict.fromkeys(texts):
            if text != "ok" and not text.startswith("NothingChanged"):
                by_number.setdefault(stops.number(text), []).append(name)
    return "; ".join(
        f"{', '.join(names) if len(names) <= _MOST_NAMES else f'{len(names)}'} ({number})"
        for number, names in sorted(by_number.items())
    )


def _line(name: str, stages: dict[str, Row], stops: Stops) -> str:
    graph, int8 = stages.get("graph", {}), stages.get("int8", {})
    prune, train = stages.get("prune", {}), stages.get("train", {})
    cells = [
        f"{name} ({graph['commit']})" if "commit" in graph else name,
        _by_hand(graph, stops),
        stops.cell(graph.get("stopped") or graph.get("export"), "ok"),
        *(stops.cell(graph.get(r), f"{graph.get(f'{r}_db', 0):.0f}") for r in _RUNTIMES),
        _int8(int8, stops),
        _pruned(prune, stops),
        _trained(train, stops),
    ]
    return "| " + " | ".join(cells) + " |"


def _by_hand(graph: Row, stops: Stops) -> str:
    hand = graph.get("hand", {})
    said = hand.get("export")
    return stops.cell(hand.get("onnxruntime", said) if said == "ok" else said, "ok")


def _int8(row: Row, stops: Stops) -> str:
    if not row:
        return ""
    if "stopped" in row:
        return stops.cell(row["stopped"], "")
    hand = row["hand"]
    parts = []
    for runtime in _RUNTIMES:
        own = stops.cell(row.get(runtime), f"{row.get(f'{runtime}_db', 0):.0f}")
        other = f"{hand[f'{runtime}_db']:.0f}" if f"{runtime}_db" in hand else "fails"
        parts.append(f"{own} [{other}]")
    return ", ".join(parts)


def _pruned(row: Row, stops: Stops) -> str:
    if not row:
        return ""
    if "stopped" in row:
        return stops.cell(row["stopped"], "")
    channel = row["prune"]["channel"]
    left = channel.get("metrics", {}).get("prune-channel/parameters_kept", 0.0)
    hand = row["hand"]["left"]
    return f"{stops.cell(channel['said'], f'{left:.2f}')} [{'fails' if hand is None else f'{hand:.2f}'}]"


def _trained(row: Row, stops: Stops) -> str:
    if not row:
        return ""
    for key in ("stopped", "workers_1", "workers_2"):
        if row.get(key, "ok") != "ok":
            return stops.cell(row[key], "")
    if "apart_in_float64" in row:
        return f"{row['apart_in_float64']:.0e} (float64)"
    return f"{row['apart']:.0e}" if row["apart"] else "0"


def _counts(found: dict[str, dict[str, Row]]) -> list[str]:
    """Sentences with the counts, each of the rows that were run."""

    def rows(stage: str) -> list[Row]:
        return [stages[stage] for stages in found.values() if stage in stages]

    def count(of: list[Row], good: Callable[[Row], bool]) -> int:
        return sum(good(row) for row in of)

    graph, int8, prune, train = rows("graph"), rows("int8"), rows("prune"), rows("train")
    by_hand = [r for r in graph if r.get("hand", {}).get("export") == "ok"]
    arrives = lambda row: all(row.get(r) == "ok" for r in _RUNTIMES)  # noqa: E731
    worse = [
        r for r in by_hand if any(r["hand"].get(t) == "ok" and r.get(t) != "ok" for t in _RUNTIMES)
    ]
    lines = [
        f"- Export and both runtimes, within a thousandth: {count(graph, arrives)} of {len(graph)}. Of the "
        f"{len(by_hand)} that torch.onnx exports by hand, {count(by_hand, arrives)}; "
        f"{_named(worse, 'a runtime takes by hand and not from Hone')}.",
    ]  # fmt: skip
    if int8:
        near = lambda row: arrives(row) and all(row[f"{r}_db"] >= _NEAR for r in _RUNTIMES)  # noqa: E731
        lines.append(
            f"- static-int8 on both runtimes, with {_NEAR} dB or more: {count(int8, near)} of "
            f"{len(int8)}, by hand {count([r.get('hand', {}) for r in int8], near)}."
        )
    if prune:
        good = count(prune, lambda r: r.get("prune", {}).get("channel", {}).get("said") == "ok")
        hand = count(prune, lambda r: (r.get("hand", {}).get("left") or 1) < 1)
        heads = count(
            prune, lambda r: r.get("prune", {}).get("transformer", {}).get("said") == "ok"
        )
        lines.append(
            f"- Channels pruned: {good} of {len(prune)}, by hand {hand} (torch-pruning also ends without a "
            f"change). Heads and units of transformers: {heads}."
        )  # fmt: skip
    if train:
        same = count(
            train, lambda r: min(r.get("apart", 1.0), r.get("apart_in_float64", 1.0)) <= 1e-5
        )
        lines.append(
            f"- Two workers end with one worker's weights to 1e-5: {same} of {len(train)}."
        )
    return lines


def _named(rows: list[Row], what: str) -> str:
    names = ", ".join(row["name"] for row in rows)
    return f"{what}: {names}" if rows else f"there is none that {what}"
