"""A user without a home folder, as in a container that runs under any user id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_hone.flows.cli.user_home import use_hone_home
from prefect_hone.flows.engine.settings import Settings
from prefect_hone.recipe.errors import StoreError


@pytest.mark.parametrize(
    ("home", "uses"),
    [("there", False), ("missing", True), ("/dev/null", True), ("read-only-with-settings", False)],
)
def test_hone_home_is_the_home_if_that_can_not_be_used(
    tmp_path: Path, home: str, uses: bool
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "read-only-with-settings" / ".prefect").mkdir(parents=True)
    (tmp_path / "read-only-with-settings").chmod(0o500)
    given = str(tmp_path / home)
    environment = {"HOME": given, "HONE_HOME": str(tmp_path / "hone")}
    use_hone_home(environment)
    assert environment["HOME"] == (str(tmp_path / "hone") if uses else given)
    (tmp_path / "read-only-with-settings").chmod(0o700)
    without = {"HOME": given}
    use_hone_home(without)
    assert without == {"HOME": given}


def test_without_both_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HONE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(StoreError, match="has no home folder") as found:
        Settings.from_environment()
    assert "set HONE_HOME" in str(found.value)
    environment = {"HONE_HOME": "/data/hone"}
    use_hone_home(environment)
    assert environment["HOME"] == "/data/hone"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user (run as root)")
def test_a_command_of_a_user_that_is_not_listed(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "os.setgid(54321)\n"
        "os.setuid(54321)\n"
        "os.environ.pop('HOME', None)\n"
        "os.environ.pop('HONE_HOME', None)\n"
        "from prefect_hone.flows.cli.user_home import use_hone_home\n"
        "from prefect_hone.flows.engine.settings import Settings\n"
        "try:\n"
        "    Settings.from_environment()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "os.environ['HONE_HOME'] = '/data/hone'\n"
        "use_hone_home()\n"
        "print(os.path.expanduser('~'))\n"
    )
    preload = "import prefect_hone.flows.cli.user_home, prefect_hone.flows.engine.settings\n"
    done = subprocess.run([sys.executable, "-c", preload + code], capture_output=True, text=True)
    assert done.stdout == "StoreError\n/data/hone\n", done.stdout + done.stderr
