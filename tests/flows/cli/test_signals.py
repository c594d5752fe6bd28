"""A signal ends a command in order, once; and surely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect_hone.flows.cli import signals
from prefect_hone.flows.cli.signals import Ended, ended_by_signals

PRELUDE = """
import os, signal, sys, threading, time
from prefect_hone.flows.cli import signals
from prefect_hone.flows.cli.signals import Ended, ended_by_signals
"""


def end_of(script: str, *names: signal.Signals, timeout: float = 180) -> tuple[int, str, float]:
    """Run a script, send a signal after each line; exit code, what it printed, seconds since."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said, started = "", time.monotonic()
        for name in names:
            said += process.stdout.readline()  # two signals at once may become one
            started = time.monotonic()
            process.send_signal(name)
        rest, _ = process.communicate(timeout=timeout)
        return process.returncode, said + rest, time.monotonic() - started
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_in_the_main_thread_once(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.default_int_handler
    given = signal.signal(number, before)  # under nohup, SIGHUP is ignored
    limited = []  # else it would end the tests' process later
    monkeypatch.setattr(signals._Ending, "_later", lambda _, s, work: limited.append(s))

    def work() -> None:
        with ended_by_signals():
            os.kill(os.getpid(), number)
            time.sleep(5)

    try:
        with pytest.raises(Ended) as caught:
            work()
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, given)
    assert caught.value.exit_code == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert limited == [signals._PATIENCE]


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_sigterm_does_not_cut_short_what_the_first_began() -> None:
    code, said, _ = end_of(
        """
with ended_by_signals():
    try:
        print("ready", flush=True)
        time.sleep(90)
    except Ended:
        print("ending", flush=True)
        time.sleep(0.5)
        print("cleaned up", flush=True)
        sys.exit(3)
""",
        signal.SIGTERM,
        signal.SIGTERM,
    )
    assert (code, "cleaned up" in said) == (3, True)


def test_what_can_not_end_in_order_is_ended() -> None:
    code, said, seconds = end_of(
        """
signals._PATIENCE = 0.5
with ended_by_signals(lambda: print("at last", flush=True)):
    try:
        print("ready", flush=True)
        time.sleep(90)
    finally:
        threading.Event().wait()
""",
        signal.SIGTERM,
    )
    assert (code, "at last" in said) == (143, True)
    assert seconds < 60


def test_a_second_ctrl_c_ends_at_once() -> None:
    code, said, seconds = end_of(
        """
with ended_by_signals(lambda: print("at last", flush=True)):
    try:
        print("ready", flush=True)
        time.sleep(90)
    finally:
        print("ending", flush=True)
        time.sleep(90)
""",
        signal.SIGINT,
        signal.SIGINT,
    )
    assert (code, "at last" in said) == (130, True)
    assert seconds < 60


@pytest.mark.parametrize(("takes", "whole"), [(0.6, True), (60, False)])
def test_an_import_is_not_cut_in_half(tmp_path: Path, takes: float, whole: bool) -> None:
    """Its lock would stay held, and the next thread that imports would hang."""
    (tmp_path / "slow_to_import.py").write_text(
        f"import time\nprint('ready', flush=True)\ntime.sleep({takes})\nprint('whole', flush=True)\n"
    )
    code, said, seconds = end_of(
        f"""
sys.path.insert(0, {str(tmp_path)!r})
signals._IMPORTING = 1.5
try:
    with ended_by_signals():
        import slow_to_import
        time.sleep(90)
except Ended as error:
    sys.exit(error.exit_code)
""",
        signal.SIGTERM,
    )
    assert code == 143
    assert ("whole" in said) is whole
    assert seconds < 45, "3 s"


def test_what_panics_at_an_interruption_is_not_cut_in_half() -> None:
    """grimp, which reads the imports for the cache keys, spends its time in Rust."""
    code, said, seconds = end_of(
        """
import grimp
try:
    with ended_by_signals():
        grimp.build_graph("grimp", cache_dir=None)
        print("ready", flush=True)
        while True:
            grimp.build_graph("prefect_hone", cache_dir=None)
except Ended as error:
    sys.exit(error.exit_code)
""",
        signal.SIGTERM,
    )
    assert code == 143
    assert "panicked" not in said
    assert "Traceback" not in said
    assert seconds < 60, "2 s"


@pytest.mark.parametrize("made", ["OSError('cut')", "HoneError('the run was interrupted')"])
def test_what_a_library_makes_of_an_interruption_is_one(made: str) -> None:
    code, said, _ = end_of(
        f"""
from prefect_hone.flows.cli.commands.common import exit_with_message
from prefect_hone.recipe.errors import HoneError
import typer
@exit_with_message
def command():
    with ended_by_signals():
        try:
            print("ready", flush=True)
            time.sleep(90)
        except KeyboardInterrupt:
            raise {made}
try:
    command()
except typer.Exit as error:
    sys.exit(error.exit_code)
""",
        signal.SIGINT,
    )
    assert (code, said) == (130, "ready\nhone: interrupted\n")


def test_ctrl_c_before_the_command_line_is_imported_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(90)\n")
    code, said, _ = end_of(
        f"""
sys.path.insert(0, {str(tmp_path)!r})
sys.modules.pop("typer", None)
for name in [n for n in sys.modules if ".flows.cli" in n]:
    del sys.modules[name]
from prefect_hone.flows.cli.start import main
main()
""",
        signal.SIGINT,
    )
    assert (code, said) == (130, "ready\nhone: interrupted\n")


def test_a_thread_that_is_not_the_main_one_gets_no_handler() -> None:
    code, said, _ = end_of(
        """
def work():
    with ended_by_signals():
        print("ready", flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""
    )
    assert code == 0
    assert "True" in said


def test_the_names_that_are_shown() -> None:
    assert str(Ended(signal.SIGINT)) == "interrupted"
    assert str(Ended(signal.SIGTERM)) == "ended by SIGTERM"
    assert signals.Ended(signal.SIGHUP).exit_code == 129
