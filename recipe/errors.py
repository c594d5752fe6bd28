"""Hone's errors. Each says what happened, where, and what to do about it.

Errors cross process boundaries (a Ray worker raises, the flow reports), so each consists of plain
fields and converts to a dictionary and back. The class determines the command's exit code.
"""

from __future__ import annotations

import difflib
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from .showable import showable


class HoneError(Exception):
    """A failure that Hone can explain. Credentials in its texts are hidden: errors are kept.

    Args:
        what: What happened, in one sentence or a few lines.
        where: The file, field, step or layer that it happened in.
        do: What the reader can do about it.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None) -> None:
        self.what = showable(what)
        self.where = None if where is None else showable(where)
        self.do = None if do is None else showable(do)
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.do is not None:
            lines.append(f"  → {self.do}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | None]:
        return {
            "type": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "do": self.do,
        }

    @staticmethod
    def from_dict(fields: Mapping[str, str | None]) -> HoneError:
        """The error that `to_dict` described; an unknown type becomes a plain HoneError."""
        cls = _BY_NAME.get(str(fields.get("type")), HoneError)
        return cls(str(fields["what"]), where=fields.get("where"), do=fields.get("do"))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The error with other names for what it mentions: a user's own for a copy in the store."""

        def said(text: str | None) -> str | None:
            for old in sorted(names, key=len, reverse=True):
                text = text.replace(old, names[old]) if text is not None else None
            return text

        return type(self)(said(self.what) or "", where=said(self.where), do=said(self.do))

    def __reduce__(self) -> tuple[Any, ...]:
        return (HoneError.from_dict, (self.to_dict(),))


class InputError(HoneError):
    """The user's input can't work: a recipe, a factory, data, a target that isn't installed."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe that can't be read; `what` lists every mistake found."""


class StepFailed(HoneError):
    """A step ran and could not do its work (an operator can't be exported, a loss became NaN)."""


class NothingChanged(StepFailed):
    """A pass found nothing to change: its variant would be another one under its name."""


class StepCrashed(HoneError):
    """The process that ran a step died (a signal, out of memory, a lost node)."""

    retryable = True


class Preempted(StepCrashed):
    """A worker was asked to stop, and saved its state first."""


class StepTimeout(HoneError):
    """A step took longer than the recipe's `timeouts` allow."""


class StoreError(HoneError):
    """The artifact store can't be read or written (full disk, wrong permissions)."""


class ServerUnreachable(HoneError):
    """A server that the environment names (MLflow, Prefect, Ray) does not answer."""


class AccessRefused(HoneError):
    """A server denies access: it requires a token, or rejects the one it got."""


_BY_NAME: dict[str, type[HoneError]] = {
    cls.__name__: cls
    for cls in (
        HoneError,
        InputError,
        RecipeError,
        StepFailed,
        NothingChanged,
        StepCrashed,
        Preempted,
        StepTimeout,
        StoreError,
        ServerUnreachable,
        AccessRefused,
    )
}


def place_of(error: BaseException) -> str | None:
    """`FILE:LINE` that an error passed through last, but for libraries' files, which say nothing to
    a reader; these if there are no others. Of an error within a model, the line of its code, in a
    library too; the layer, where that is torch's own. None if it came from another process.
    """
    ours = place = in_model = None
    modules: list[Any] = []
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        place = f"{file.name}:{trace.tb_lineno}"
        packages = [i for i, part in enumerate(file.parts) if part in _PACKAGES]
        within = file.parts[packages[-1] + 1 :] if packages else ()
        if not within:
            ours = place
        if within == ("torch", "nn", "modules", "module.py"):
            modules.append(trace.tb_frame.f_locals.get("self"))
        elif modules and within[:1] != ("torch",) and not _says_nothing(file):
            in_model = f"{'/'.join(within)}:{trace.tb_lineno}" if within else place
        trace = trace.tb_next
    return in_model or _layer(modules) or ours or place


def _says_nothing(file: Path) -> bool:
    """Whether it is a file of Python's or of Hone's, and no example of ours."""
    if any(file.is_relative_to(_OWN / room) for room in _ROOMS):
        return not file.is_relative_to(_OWN / "recipe" / "examples")
    packages = set(_PACKAGES) & set(file.parts)
    return not packages and file.is_relative_to(sysconfig.get_paths()["stdlib"])


def _layer(modules: list[Any]) -> str | None:
    """The last of the modules that called each other, by its name in the first."""
    if not modules or not hasattr(modules[0], "named_modules"):
        return None
    names = {id(module): name for name, module in modules[0].named_modules()}
    name = names.get(id(modules[-1]), "")
    kind = type(modules[-1]).__name__
    return f"layer '{name}' ({kind})" if name else f"the model ({kind})"


_PACKAGES = ("site-packages", "dist-packages")
_OWN = Path(__file__).resolve().parents[1]
_ROOMS = ("recipe", "runtimes", "ray_workers", "tasks", "flows", "testing")
#: Names as alike as this differ by a slip of the pen.
_SLIP = 0.8
#: So many names are listed.
_FEW = 8


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely means, or None if nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` if a name is close, else the list of known names.

    A short list is given, too, if the name is no mere slip of the pen.
    """
    names = sorted(known)
    match = nearest(name, names)
    listed = f"known: {', '.join(names)}" if names else "there is none"
    if match is None:
        return listed
    likely = difflib.SequenceMatcher(None, name, match).ratio() >= _SLIP or len(names) > _FEW
    return f"did you mean '{match}'?" if likely else f"did you mean '{match}'? {listed}"
