"""What a command prints hides credentials, and a reader that goes away ends or does not end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.flows.cli.output import EXIT_NO_READER

PRELUDE = """
import sys
from pathlib import Path
from prefect_hone.flows.cli.output import *
from prefect_hone.flows.cli import app, output
from prefect_hone.flows.cli.commands import common
guard_output()
"""
CANARY = "CANARY-7f3a9"


def piped(script: str, log: Path, reads: int, **environment: str) -> tuple[int, str, str]:
    """Run a script whose reader reads so many bytes and goes; its code, both outputs."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    read = process.stdout.read(reads) if reads else ""
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    return process.wait(), read, err


COMMAND = (
    "import typer\napp.app = typer.Typer()\napp.app.command()(common.exit_with_message(command))\n"
)
LOTS = "for i in range(2000): print('line', i, '. ' * 50)\n"


def test_a_run_goes_on_without_a_reader_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "output.log"
    script = f"go_on_without_reader(Path(sys.argv[1]))\n{LOTS}flush_output()\nPath(sys.argv[1]).with_name('done').touch()\nleave(3)"
    code, read, err = piped(script, log, 10)

    assert code == 3
    assert read.startswith("line 0")
    assert "nobody reads the standard output any more; the run goes on without it" in err
    assert "the run goes on" in log.read_text()
    assert log.with_name("done").exists()
    assert "Traceback" not in err


@pytest.mark.parametrize("text", [LOTS, "print('short')\n"])
def test_any_other_command_ends_quietly_as_tools_of_unix_do(tmp_path: Path, text: str) -> None:
    script = (
        "import time; time.sleep(0.3)\n"
        f"def command():\n {text}\napp.app = command\nsys.argv = ['hone']\napp.main()"
    )
    code, _, err = piped(script, tmp_path / "log", 0)
    assert (code, err) == (141, "")


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    script = f"def command():\n {LOTS}\napp.app = command\nsys.argv = ['hone']\napp.main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + script], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "hone: the output can't be written: no space left on the disk\n"


def test_what_is_printed_hides_credentials(tmp_path: Path) -> None:
    script = (
        "import os\n"
        f"print('see http://user:{CANARY}@host')\n"
        "print(os.environ['MLFLOW_TRACKING_PASSWORD'], file=sys.stderr)\n"
        f"def command(): raise RuntimeError('http://user:{CANARY}@host')\n"
        "app.app = command\nsys.argv = ['hone']\napp.main()"
    )
    code, out, err = piped(script, tmp_path / "log", -1, MLFLOW_TRACKING_PASSWORD=f"{CANARY}-2")
    assert code == 1
    assert "RuntimeError" in err, "a fault of Hone's own keeps its traceback"
    assert CANARY not in out + err


def test_only_the_document_of_json_is_on_standard_output(tmp_path: Path) -> None:
    """MLflow prints "View run" in Python; others print in C, in children, and at exit."""
    script = (
        "import atexit, os, subprocess\n"
        "def command(as_json: bool = True):\n"
        " print('View run')\n"
        " os.write(1, b'from C\\n')\n"
        " subprocess.run(['echo', 'from a child'])\n"
        " atexit.register(lambda: os.write(1, b'at exit\\n'))\n"
        " common.print_json({'value': 1})\n"
        " print('after it')\n"
        f"{COMMAND}sys.argv = ['hone']\napp.main()"
    )
    code, read, err = piped(script, tmp_path / "log", -1)
    assert code == 0, err
    assert json.loads(read) == {"value": 1}
    for said in ("View run", "from C", "from a child", "at exit", "after it"):
        assert said in err


def test_a_lost_reader_of_json_ends_a_command_and_not_a_run(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    script = (
        "import time; time.sleep(0.3)\n"
        "def command(as_json: bool = True):\n"
        " if goes_on: go_on_without_reader(log)\n"
        f" common.print_json({{'value': 1}})\n{COMMAND}log = Path(sys.argv.pop())\napp.main()"
    )
    code, _, err = piped(f"goes_on = True\n{script}", log, 0)
    assert code == 0, err
    assert "nobody reads the standard output any more" in log.read_text()
    code, _, err = piped(f"goes_on = False\n{script}", log, 0)
    assert code == EXIT_NO_READER, err
    assert err == ""


def test_what_the_terminals_encoding_lacks_is_written_by_similar_characters(tmp_path: Path) -> None:
    script = "print('★ fp32 2.1 × eager → größer')\nsys.stderr.write('≥ 98 %\\n')\nleave(0)"
    code, read, err = piped(script, tmp_path / "log", 100, PYTHONIOENCODING="ascii")
    assert (code, read, err) == (0, "* fp32 2.1 x eager -> gr??er\n", ">= 98 %\n")
