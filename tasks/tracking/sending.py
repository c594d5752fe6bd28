"""Sends journals to MLflow: a run's own, and those that dead processes left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from ...recipe.errors import HoneError
from ...recipe.library_messages import telling
from ...recipe.machine_errors import machine_error
from ...recipe.showable import showable
from .away import is_away
from .entries import HeaderEntry, JournalEntry, RunStatus, UnreadableEntry, is_model_key
from .journal import BadJournal, Journal, left_over, open_left_over, refuse
from .liveness import Looks
from .names import PARENT
from .sender import MlflowSender


def _parts(entries: Sequence[JournalEntry]) -> list[list[JournalEntry]]:
    """Entries by their run; those of one run one by one."""
    of: dict[str, list[JournalEntry]] = {}
    for entry in entries:
        of.setdefault("" if isinstance(entry, HeaderEntry) else entry.ref, []).append(entry)
    return list(of.values()) if len(of) > 1 else [[entry] for entry in entries]


class Sending:
    """Sends entries of journals in order, and leaves out what MLflow refuses.

    Attributes:
        problems: What was refused or can't be sent, in sentences.
        disk_error: Why the embedded store took nothing at the last try.

    Args:
        sender: The connection.
        uri: The tracking server or store.
        folder: Folder of journals.
    """

    def __init__(self, sender: MlflowSender, uri: str, folder: Path) -> None:
        self._sender = sender
        self._uri = uri
        self._folder = folder
        self.problems: list[str] = sender.doubts
        self.disk_error: HoneError | None = None

    def chores(self, own: Journal) -> Generator[None]:
        """End runs of dead processes, and send what they left: in small steps.

        Args:
            own: The journal of the run that does this.
        """
        looks = Looks(self._folder / "looks.json")
        try:
            self._sender.close_dead_runs(looks.is_dead, keep=own.ids[PARENT])
            looks.keep()
        except Exception as error:
            if not is_away(error):
                self.problem(f"runs of dead processes can't be ended: {telling(error)[:300]}")
        yield
        for path in left_over(self._folder):
            if path != own.path:
                yield from self._old_journal(path)

    def send_next(self, journal: Journal) -> bool:
        """Send the next entries; False if the server is away. A refused entry is skipped."""
        entries = journal.next()
        if isinstance(entries[0], UnreadableEntry):
            self._unreadable(journal, entries[0])
        else:
            sendable = [entry for entry in entries if not isinstance(entry, UnreadableEntry)]
            if not self._sent_or_refused(sendable, journal):
                return False
        journal.done(len(entries))
        return True

    def _sent_or_refused(self, entries: Sequence[JournalEntry], journal: Journal) -> bool:
        """False if the server is away."""
        try:
            self._sender.send(entries, journal.ids)
        except Exception as error:
            if is_away(error):
                embedded = not self._uri.startswith("http")
                self.disk_error = machine_error(error) if embedded else None
                return False
            if len(entries) > 1:  # find the one that is refused
                return all(self._sent_or_refused(part, journal) for part in _parts(entries))
            self._refused(entries[0], error)
        return True

    def _refused(self, entry: JournalEntry, error: Exception) -> None:
        whose = "" if isinstance(entry, HeaderEntry) else f" of {entry.ref}"
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        self.problem(f"MLflow refused {entry.op}{whose}: {kind}{telling(error)[:300]}")

    def _unreadable(self, journal: Journal, entry: UnreadableEntry) -> None:
        header = journal.header
        version = f"Hone {header.version}" if header and header.version else "another Hone"
        self.problem(
            f"{version} left something of run {journal.path.stem} unsent that this one can't "
            f"read, and leaves out: {entry.line[:200]}"
        )

    def problem(self, text: str) -> None:
        """Note a problem, once."""
        if text not in self.problems:
            self.problems.append(text)

    def _old_journal(self, path: Path) -> Iterator[None]:
        """Send the journal that a dead run left for this server; one that can't be is put aside."""
        try:
            yield from self._send_old(path)
        except FileNotFoundError:
            pass  # another run has just sent it
        except Exception as error:
            if is_away(error):
                return  # the next run tries again
            why = telling(error)[:300]
            try:
                self.problem(
                    f"what run {path.stem[:64]} left unsent can't be sent: {why}; it is kept in "
                    f"{refuse(path)}"
                )
            except OSError:
                self.problem(f"what is in {path} can't be sent, nor put aside: {why}; delete it")

    def _send_old(self, path: Path) -> Iterator[None]:
        journal, sent = open_left_over(path), False
        try:
            header = journal.header
            if header is None or header.uri != showable(self._uri):
                return  # for another server
            if not self._is_over(path.stem):
                return  # its process lives
            while journal.waiting():
                if not self.send_next(journal):
                    return
                yield
            for ref, run_id in journal.ids.items():
                if not is_model_key(ref):
                    with contextlib.suppress(Exception):
                        self._sender.end_if_running(run_id, RunStatus.KILLED)
            sent = True
        finally:
            journal.close(remove=sent)

    def _is_over(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._sender.run_is_over(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise BadJournal("MLflow has no such run; was its database replaced?") from error
            raise
