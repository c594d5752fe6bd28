"""Why a candidate won or lost, in words, from the outcome alone."""

from __future__ import annotations

import math

from ...recipe.benchmark import NO_TIE
from ...recipe.measures import bytes_in_words
from ..decide import Compared, GateResult
from ..outcome import Candidate, CandidateStatus, Outcome


def why(outcome: Outcome, candidate: Candidate) -> str:
    """Whether a candidate won, its gates with their margins, and how it compares with the winner.

    Args:
        outcome: Of the run.
        candidate: One of its candidates.
    """
    lines = [_verdict(outcome, candidate)]
    if candidate.suspicious:
        lines += ["", f"{candidate.suspicious[0].upper()}{candidate.suspicious[1:]}."]
    if candidate.departs:
        lines += ["", f"{candidate.departs[0].upper()}{candidate.departs[1:]}."]
    if candidate.gates:
        whose = "the defaults, because the recipe has none"
        kind = whose if outcome.gates_by == "default" else "of the recipe"
        lines += ["", f"Gates ({kind}):", *(f"- {_gate(gate)}" for gate in candidate.gates)]
    elif candidate.status.is_measured:
        lines += ["", "There were no gates."]
    if candidate.worst_group is not None:
        lines += ["", f"The group that lost most: {candidate.worst_group}."]
    compared = _beside_winner(outcome, candidate)
    if compared:
        lines += ["", f"Beside the winner, {outcome.winner}:", *(f"- {text}" for text in compared)]
    if outcome.not_looked_at:
        lines += ["", f"Not looked at: {'; '.join(outcome.not_looked_at)}."]
    if outcome.today is not None:
        lines += ["", _champion(outcome, candidate)]
    return "\n".join(lines)


def in_short(outcome: Outcome) -> str:
    """One line for each candidate."""
    return "\n".join(_verdict(outcome, candidate) for candidate in outcome.candidates)


def _verdict(outcome: Outcome, candidate: Candidate) -> str:
    name = candidate.name
    if name == outcome.winner:
        return f"{name} won: {outcome.why}."
    if candidate.status is CandidateStatus.SKIPPED:
        return f"{name} was skipped: its target does not run on that machine ({candidate.error})."
    if candidate.status is CandidateStatus.FAILED:
        return f"{name} could not be measured: {candidate.error}"
    if candidate.failed_gates:
        count = len(candidate.failed_gates)
        said = "; ".join(_gate(gate) for gate in candidate.failed_gates)
        return f"{name} lost: it failed {count} gate{'s' if count > 1 else ''}: {said}."
    if outcome.winner is None:
        return f"{name} passed every gate, and none won: {outcome.why}."
    return (
        f"{name} passed every gate and lost to {outcome.winner}: {_why_lost(outcome, candidate)}."
    )


def _why_lost(outcome: Outcome, candidate: Candidate) -> str:
    """The reason why one that passed did not win."""
    winner, compared = outcome.winning, candidate.against_winner
    if winner is None:
        return outcome.why
    if outcome.is_of_speed and compared is not None:
        if not compared.alike:
            return f"it takes {compared.ratio:.3g} times as long [{_interval(compared)}]"
        if compared.ratio > 1 + NO_TIE:
            return (
                f"it took {compared.ratio:.3g} times as long [{_interval(compared)}], though on a "
                "machine that was too noisy to be certain"
            )
        reason = _tie(outcome, winner, candidate)
        return f"in speed the two can't be told apart at 95 % confidence, and {reason}"
    return f"{winner.name} was chosen because {outcome.why}"


def _tie(outcome: Outcome, winner: Candidate, candidate: Candidate) -> str:
    """By what the winner won a tie in speed."""
    quality = f"quality/{outcome.metric}"
    best, own = (c.metrics.get(quality) for c in (winner, candidate))
    if best is not None and own is not None and not math.isclose(best, own, rel_tol=1e-5):
        return f"{winner.name} has the better {outcome.metric} ({best:.4g}, this one {own:.4g})"
    best, own = (c.metrics.get("size/bytes") for c in (winner, candidate))
    if best is not None and own is not None and best < own:
        sizes = f"{bytes_in_words(best)}, this one {bytes_in_words(own)}"
        return f"of the same quality {winner.name} is smaller ({sizes})"
    return f"quality and size are no better, and {winner.name} was measured to be faster"


def _interval(compared: Compared) -> str:
    return f"{compared.low:.3g}, {compared.high:.3g}"


def _gate(gate: GateResult) -> str:
    """`quality.drop is 0.0025, at most 0.02: passed by 0.0175`."""
    limit = f"{'at most' if gate.bound == 'at_most' else 'at least'} {gate.limit:.4g}"
    outcome = "passed" if gate.passed else "failed"
    if gate.value is None:
        return f"{gate.metric} has no value, {limit}: {outcome} ({gate.said or 'not measured'})"
    text = f"{gate.metric} is {gate.value:.4g}, {limit}: {outcome} by {abs(gate.margin or 0):.4g}"
    if gate.passed and (gate.margin or 0) < 0:
        text = f"{gate.metric} is {gate.value:.4g}, {limit}: {outcome}"
    return f"{text} ({gate.said})" if gate.said else text


def _beside_winner(outcome: Outcome, candidate: Candidate) -> list[str]:
    winner = outcome.winning
    if winner is None or candidate is winner or not candidate.status.is_measured:
        return []
    lines = []
    compared = candidate.against_winner
    if compared is not None:
        alike = (
            "can't be told apart at 95 % confidence" if compared.alike else "certainly different"
        )
        lines.append(f"time of a call: {compared.ratio:.3g} times [{_interval(compared)}], {alike}")
    if lines and candidate.again is not None and (first := candidate.again.against_winner_before):
        said = f"{first.ratio:.3g} times [{_interval(first)}]"
        lines[0] += f", measured again in fresh processes ({said} before)"
    quality = f"quality/{outcome.metric}"
    if quality in candidate.metrics and quality in winner.metrics:
        own, best = candidate.metrics[quality], winner.metrics[quality]
        lines.append(f"{outcome.metric}: {own:.4g}, the winner's {best:.4g}")
    if "size/bytes" in candidate.metrics and "size/bytes" in winner.metrics:
        own, best = candidate.metrics["size/bytes"], winner.metrics["size/bytes"]
        lines.append(f"size: {bytes_in_words(own)}, the winner's {bytes_in_words(best)}")
    return lines


def _champion(outcome: Outcome, candidate: Candidate) -> str:
    today = outcome.today
    assert today is not None  # noqa: S101 (narrows a type)
    if today.unmeasured is not None:
        return f"Comparison with the champion: {today.unmeasured}."
    metrics, parts = candidate.metrics, []
    if (faster := metrics.get("latency/ratio_to_champion")) is not None:
        parts.append(f"{faster:.3g} times as fast")
    if (smaller := metrics.get("size/ratio_to_champion")) is not None:
        parts.append(f"{1 / smaller:.3g} times its size")
    if (lost := metrics.get("quality/drop_from_champion")) is not None:
        parts.append(f"quality {lost:+.4g} lost")
    if candidate.name == today.same_as:
        return f"It is the {today.alias} of the day, version {today.version}, byte for byte."
    which = f"the {today.alias} of the day, version {today.version} ({today.candidate})"
    return f"Against {which}: {', '.join(parts) or 'not measured'}."
