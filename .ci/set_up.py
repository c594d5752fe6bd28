"""Makes Hone's environment, `.venv`: what `make env` runs. It needs the standard library only.

uv installs, because it takes a fraction of pip's time. It doesn't read pip's configuration, so this
script translates it: a mirror, a folder of wheels, a proxy or certificates that are configured for
pip need not be configured again. If uv fails, pip installs the same.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = "constraints.txt"
#: The build of torch that was last asked for by name; make reads it, too.
CHOICE = VENV / ".torch"
#: PyTorch's CPU builds: a page of links to torch alone, so no other package is taken from it.
CPU_BUILDS = "https://download.pytorch.org/whl/cpu/torch/"
#: For that page, which a closed network never answers.
HURRIED = {"timeout": "10", "retries": "0"}

#: Options of pip by their long names, values as text.
Options = Mapping[str, str]


def main() -> None:
    os.chdir(ROOT)
    wanted = os.environ.get("HONE_TORCH", "")
    choice = wanted or (CHOICE.read_text() if CHOICE.exists() else "auto")
    if choice not in ("auto", "cpu", "cuda"):
        fail(f"HONE_TORCH is {choice!r}", "set it to auto, cpu or cuda, or not at all")
    make_venv()
    options = pip_options(captured([str(PYTHON), "-m", "pip", "config", "list"]).stdout)
    if not (has_uv() and install(uv, options, choice)):
        say("uv can't do it: pip tries the same, which takes some minutes.")
        if not install(pip, options, choice):
            fail(
                "the packages could not be installed; the reason is above",
                "see to the network, the disk or what `.venv/bin/pip config list` prints, then\n"
                "  run it again: it goes on from what is there (`make clean` starts from nothing)",
            )
    compile_own(os.environ)
    if wanted:
        CHOICE.write_text(wanted)


def make_venv() -> None:
    """Create `.venv`, unless there is one whose pip works."""
    if PYTHON.exists() and not captured([str(PYTHON), "-m", "pip", "--version"]).returncode:
        return
    say(f"Making .venv with Python {sys.version.partition(' ')[0]}")
    made = captured([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if made.returncode:
        say(made.stdout + made.stderr)
        fail(f"{sys.executable} -m venv failed", "install what it asks for (Debian: python3-venv)")


def has_uv() -> bool:
    """Whether uv is available in its exact version; pip installs it if it isn't."""
    version, command = exact("uv"), VENV / "bin" / "uv"
    if command.exists() and version in captured([str(command), "--version"]).stdout.split():
        return True
    pip_install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return shown([*pip_install, "--only-binary", "uv", f"uv=={version}"], os.environ) == 0


@dataclass(frozen=True)
class Installer:
    """An install command without its packages, and its environment variables."""

    command: list[str]
    variables: dict[str, str]

    def finds(self, requirement: str) -> bool:
        return not self.trial(requirement).returncode

    def trial(self, requirement: str) -> subprocess.CompletedProcess[str]:
        trial = [*self.command, "--quiet", "--dry-run", "--no-deps", requirement]
        return captured(trial, self.variables)


def uv(options: Options) -> Installer:
    command = [
        str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON),
        # The best version of all sources, as pip does; else the first that knows the name.
        "--index-strategy", "unsafe-best-match",
        *(["--no-index"] if is_on(options, "no-index") else []),
    ]  # fmt: skip
    return Installer(command, for_uv(options, os.environ))


def pip(options: Options) -> Installer:
    command = [
        str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check",
        "--constraint", CONSTRAINTS,
        *([] if sys.stderr.isatty() else ["--quiet"]),
    ]  # fmt: skip
    named = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in options.items()}
    return Installer(command, {**os.environ, **named})


def install(make: Callable[[Options], Installer], options: Options, choice: str) -> bool:
    """Install everything; returns whether that succeeded."""
    chosen = torch_for(make, options, choice)
    if chosen is None:
        return False
    torch, options = chosen
    installer = make(options)
    say(f"Installing {torch.partition(',')[0]} and everything else of {CONSTRAINTS}")
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        say("PYTHONDONTWRITEBYTECODE is set: all is compiled now, half a minute more")
    command = [*installer.command, torch, "--editable", ".[dev]"]
    return shown(command, installer.variables) == 0


def compile_own(variables: Mapping[str, str]) -> None:
    """Compile Hone's own modules where Python may not do it by itself.

    Else each process of a run would compile them again: uv compiles only what it copies.
    """
    if variables.get("PYTHONDONTWRITEBYTECODE"):
        own = [str(path.parent) for path in sorted(ROOT.glob("*/__init__.py"))]
        captured([str(PYTHON), "-m", "compileall", "-q", "-l", str(ROOT)], variables)
        captured([str(PYTHON), "-m", "compileall", "-q", *own], variables)


def torch_for(
    make: Callable[[Options], Installer], options: Options, choice: str
) -> tuple[str, Options] | None:
    """The build of torch for this machine: its requirement, and options that find it.

    Args:
        make: The installer that must find it.
        options: Of pip.
        choice: `cpu`, `cuda`, or `auto`: what the machine has.
    """
    version = exact("torch")
    usual, cpu = f"torch=={version}", f"torch=={version}+cpu"
    if not sys.platform.startswith("linux"):
        return usual, options  # the only one
    if choice == "cuda" or (choice == "auto" and has_nvidia()):
        return f"{usual},!={version}+cpu", options
    if make(options).finds(cpu):
        return cpu, options
    if not is_on(options, "no-index"):
        links = f"{options.get('find-links', '')} {CPU_BUILDS}".strip()
        if make({**options, "find-links": links, **HURRIED}).finds(cpu):
            return cpu, {**options, "find-links": links}
    trial = make(options).trial(usual)
    if trial.returncode:
        say(without_secrets(trial.stdout + trial.stderr))
        return None
    say(f"Neither pip's sources nor {CPU_BUILDS} have {cpu}.")
    if choice == "cpu":
        say("HONE_TORCH=cuda takes the usual build, with gigabytes of CUDA.")
        return None
    say("So the usual build of torch is taken, with gigabytes of CUDA that nothing here needs.")
    return usual, options


def pip_options(listing: str) -> dict[str, str]:
    """The options in `pip config list`, as `pip install` reads them: the last section wins."""
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            key, equals, text = line.partition("=")
            place, _, name = key.rpartition(".")
            if equals and place == section and (value := str(ast.literal_eval(text))):
                options["timeout" if name == "default-timeout" else name] = value
    return options


def for_uv(options: Options, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables with which uv does what pip would do with these options.

    Args:
        options: Of pip.
        variables: Of this process. What they tell uv itself holds.
    """

    def words(name: str) -> list[str]:
        return options.get(name, "").split()

    translated = {
        "UV_DEFAULT_INDEX": options.get("index-url"),
        "UV_INDEX": " ".join(words("extra-index-url")),
        "UV_FIND_LINKS": ",".join(filter(None, map(as_link, words("find-links")))),
        "UV_INSECURE_HOST": " ".join(words("trusted-host")),
        "UV_HTTP_TIMEOUT": options.get("timeout"),
        "UV_HTTP_RETRIES": options.get("retries"),
        "UV_NO_CACHE": "1" if is_on(options, "no-cache-dir") else None,
        "UV_KEYRING_PROVIDER": "subprocess" if "subprocess" in words("keyring-provider") else None,
        "SSL_CLIENT_CERT": options.get("client-cert"),
        # Else each process would compile all that it imports.
        "UV_COMPILE_BYTECODE": "1" if variables.get("PYTHONDONTWRITEBYTECODE") else None,
    }
    result = {name: value for name, value in translated.items() if value} | dict(variables)
    # Constraints add up, and ours is always one of them.
    for name, option in _CONSTRAINTS.items():
        files = [CONSTRAINTS, *map(os.path.expanduser, words(option)), variables.get(name, "")]
        result[name] = " ".join(filter(None, files))
    if proxy := options.get("proxy"):
        result |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    authorities = (
        options.get("cert"),
        *map(variables.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")),
    )
    if cert := next(filter(None, authorities), None):  # before SSL_CERT_FILE, as with pip
        path = os.path.expanduser(cert)
        result["SSL_CERT_DIR" if os.path.isdir(path) else "SSL_CERT_FILE"] = path
    elif has_certificates():
        result.setdefault("UV_SYSTEM_CERTS", "1")  # where a company's own authority is
    # These would choose another Python and another torch.
    return {k: v for k, v in result.items() if k not in ("UV_SYSTEM_PYTHON", "UV_TORCH_BACKEND")}


_CONSTRAINTS = {"UV_CONSTRAINT": "constraint", "UV_BUILD_CONSTRAINT": "build-constraint"}


def as_link(link: str) -> str | None:
    """A link for uv; None for a missing folder, which pip only warns about and uv refuses."""
    if "://" in link and not link.startswith("file:"):
        return link
    path = unquote(urlsplit(link).path) if link.startswith("file:") else os.path.expanduser(link)
    return path if os.path.exists(path) else None


def has_certificates() -> bool:
    """Whether the system has certificates that uv can use instead of its bundled ones."""
    paths = ssl.get_default_verify_paths()
    return sys.platform == "darwin" or bool(
        paths.cafile or (paths.capath and os.listdir(paths.capath))
    )


def is_on(options: Options, name: str) -> bool:
    return options.get(name, "").lower() in ("1", "true", "yes", "on", "t", "y")


def exact(name: str) -> str:
    """The version of a package in `constraints.txt`."""
    found = re.search(rf"^{name}==(\S+)", (ROOT / CONSTRAINTS).read_text(), re.MULTILINE)
    return found[1] if found else fail(f"{CONSTRAINTS} has no {name}", "add its exact version")


def has_nvidia() -> bool:
    """Whether the machine has an NVIDIA GPU and its driver."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")  # in WSL there are no such devices
    return tool is not None and captured([tool, "-L"]).stdout.startswith("GPU ")


def captured(
    command: list[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (a list of our own, no shell)
        command, env=variables, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def shown(command: list[str], variables: Mapping[str, str]) -> int:
    """Run a command; returns its exit status.

    On a terminal it shows its own progress; in a log, only the informative lines.
    """
    if sys.stderr.isatty():
        return subprocess.run(command, env=variables, check=False).returncode  # noqa: S603 (a list of our own, no shell)
    with subprocess.Popen(  # noqa: S603 (a list of our own, no shell)
        command, env=variables, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            if tells_something(line):
                say(without_secrets(line.rstrip()))
    return process.returncode


#: What uv prints of every package, and pip of a local index that lacks a package.
_CHATTER = re.compile(
    r"\s*$| [-+~] | Downloaded | +(Building|Built) |Using Python |WARNING: Location 'file:"
)


def tells_something(line: str) -> bool:
    if download := re.match(r"Downloading .*\((\d+)[\d.]*([A-Z])iB\)$", line):
        return download[2] == "G" or (download[2] == "M" and int(download[1]) >= 10)
    return not _CHATTER.match(line)


def without_secrets(text: str) -> str:
    return re.sub(r"(?<=://)[^/\s@]+@", "****@", text)


def say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")
    sys.stdout.flush()


def fail(what: str, do: str) -> NoReturn:
    sys.exit(f"Hone's environment was not made: {what}.\n  To do: {do}.")


if __name__ == "__main__":
    main()
