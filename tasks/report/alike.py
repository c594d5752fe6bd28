"""Candidates that a picture would show the same of: it is drawn once, for all of them."""

from __future__ import annotations

from .contents import Report


def layers_of(report: Report) -> dict[str, str]:
    """Candidates with a picture of their layers, each with all whose layers are the same ones."""
    departs = {c.name: c.departs for c in report.outcome.candidates}
    return _alike({name: (facts, departs.get(name)) for name, facts in report.layers.items()})


def sensitivity_of(report: Report) -> dict[str, str]:
    """The same for the sensitivity of layers."""
    return _alike(
        {
            name: (values, sorted(report.left_alone.get(name, ())))
            for name, values in report.sensitivity.items()
        }
    )


def _alike(shown: dict[str, object]) -> dict[str, str]:
    """The first of those of which the same is shown, with the names of all."""
    found: list[tuple[object, list[str]]] = []
    for name, what in shown.items():
        names = next((names for other, names in found if other == what), None)
        if names is None:
            found.append((what, [name]))
        else:
            names.append(name)
    return {names[0]: ", ".join(names) for _, names in found}
