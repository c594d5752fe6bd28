"""Errors of runtimes: what happened, where, and what to do about it.

This room is used without the rest of Hone, so it has its own errors.
`ray_workers/runtime_process.py` converts them to Hone's.
"""

from __future__ import annotations

_LONGEST = 20_000  # characters of a library's message


class RuntimeFailed(Exception):
    """A runtime can't do what it was asked to do.

    Args:
        what: What happened, in one sentence.
        where: The file or process that it happened in.
        do: What the reader can do about it.
        kind: The class of the error as it was raised, possibly in another process.
        said: What the runtime's library raised, if it did: `CLASS: its whole text`.
    """

    def __init__(
        self,
        what: str,
        where: str | None = None,
        do: str | None = None,
        kind: str = "",
        said: str = "",
    ) -> None:
        super().__init__(what, where, do, kind, said)
        self.what = what
        self.where = where
        self.do = do
        self.kind = kind or type(self).__name__
        self.said = said

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.do is not None:
            lines.append(f"  → {self.do}")
        return "\n".join(lines)


class RuntimeDied(RuntimeFailed):
    """The process that a runtime was in has ended."""


class RuntimeSilent(RuntimeFailed):
    """The process that a runtime is in did not answer in time."""


class RuntimeMissing(RuntimeFailed):
    """A runtime's library is not installed, and its isolated environment can't be created."""


class ArtifactChanged(RuntimeFailed):
    """An artifact's bytes are not those that were measured."""


def as_plain_data(error: Exception) -> dict[str, str | None]:
    """An error in the form that is sent to another process, with its what, where and do if any."""
    what = getattr(error, "what", None)
    if isinstance(what, str):
        kind, said = getattr(error, "kind", type(error).__name__), getattr(error, "said", "")
        where, do = getattr(error, "where", None), getattr(error, "do", None)
        return {"kind": kind, "what": what, "where": where, "do": do, "said": said}
    name = type(error).__name__
    what = f"the runtime raised {name}: {telling_line(error)}"
    said = f"{name}: {str(error)[:_LONGEST]}"
    return {"kind": RuntimeFailed.__name__, "what": what, "where": None, "do": None, "said": said}


def telling_line(error: BaseException) -> str:
    """The first line that says what is wrong, rather than where in the runtime's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = (line for line in lines if not line.startswith("Exception from "))
    return next(said, lines[0] if lines else "")
