"""What a recipe may reach, by where the recipe comes from: the one place that decides it.

Whatever opens, copies, downloads or imports something that a recipe names asks here first. A person
who runs a file reaches what that person can reach anyway. A recipe that came as a parameter (from
the Prefect UI, its API or a deployment) or with an event of the registry is data of somebody else:
it reaches what the worker's environment lists, and models of the configured MLflow server.

`HONE_ALLOWED_PREFIXES` lists packages and functions (`factories.py`), `HONE_ALLOWED_PATHS` folders
and URL prefixes.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import InputError
from .factories import Allowed
from .strict import Strict

PATHS = "HONE_ALLOWED_PATHS"

#: URLs that a person's recipe may name; others need a prefix in HONE_ALLOWED_PATHS. webhdfs is not
#: among them: its servers redirect, and its client follows to any address.
_SCHEMES = frozenset(
    {
        "abfs", "abfss", "adl", "az", "ftp", "gcs", "gs", "hdfs", "hf", "http", "https", "memory",
        "oss", "s3", "s3a", "sftp",
    }
)  # fmt: skip
#: Those whose URLs name a host.
_HOSTS = frozenset({"ftp", "http", "https", "sftp", "webhdfs"})
_MODEL_URI = re.compile(r"^(models|runs):/[^/\s][^\x00-\x1f\x7f\\?#%'\"]*$")
_LONGEST_PATH = 4_000
_UNCLEAN = re.compile(r"[\x00-\x1f\x7f\\]")
#: Addresses of clouds' metadata services that are not link-local.
_METADATA = frozenset(
    {"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23",
     "fd20:ce::254"}
)  # fmt: skip
#: IPv6 networks whose addresses have an IPv4 address in their last 32 bits (RFC 6052, RFC 8215, and
#: the addresses of RFC 4291 that are no longer used).
_WITH_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))


class Origin(StrEnum):
    """Where a recipe comes from.

    Attributes:
        COMMAND_LINE: A file that a person runs.
        PARAMETER: A parameter of a flow: from the Prefect UI, its API or a deployment.
        EVENT: An event of the model registry.
    """

    COMMAND_LINE = "command-line"
    PARAMETER = "parameter"
    EVENT = "event"

    @property
    def in_words(self) -> str:
        return {
            Origin.COMMAND_LINE: "a recipe file",
            Origin.PARAMETER: "a recipe from a flow's parameter",
            Origin.EVENT: "a recipe from an event of the registry",
        }[self]


class AccessPolicy(Strict):
    """What a recipe of one origin may reach.

    Attributes:
        origin: Where the recipe comes from.
        factories: Packages, and exact functions, that it may import and call.
        paths: Folders and URL prefixes that it may read; a recipe file that a person runs reads
            other places too.
    """

    origin: Origin = Origin.PARAMETER
    factories: Allowed = Allowed()
    paths: tuple[str, ...] = ()

    @staticmethod
    def from_environment(origin: Origin, code: Path | None = None) -> AccessPolicy:
        """The policy that `HONE_ALLOWED_PREFIXES` and `HONE_ALLOWED_PATHS` describe.

        Args:
            origin: Where the recipe comes from.
            code: The recipe's code folder, whose modules it may name.
        """
        given = os.environ.get(PATHS, "").split(",")
        return AccessPolicy(
            origin=origin,
            factories=Allowed.from_environment(code),
            paths=tuple(path.strip() for path in given if path.strip()),
        )

    @property
    def by_a_person(self) -> bool:
        """Whether somebody runs the recipe, who can read the machine's files anyway."""
        return self.origin is Origin.COMMAND_LINE

    def place(self, given: str, where: str, base: Path | None = None) -> str:
        """Where a file or folder lies that a recipe names: an absolute local path, or a URL.

        Nothing is opened. It is decided by where links lead; the path that is returned keeps the
        last name, which says the kind of a file.

        Args:
            given: A path or a URL, as the recipe has it.
            where: The field (`model.weights`).
            base: The folder that relative paths start from: the recipe's.

        Raises:
            InputError: A recipe of this origin may not read it.
        """
        shown = f"{where}: {given}"
        local = _local_path(given)
        if local is None:
            self._check_url(given, shown)
            return given
        path = _resolved(local, shown, base)
        if not self.by_a_person and not self._in_allowed_folder(path):
            raise self._refused("this path", shown)
        named = Path(local).expanduser()
        parent = _resolved(str(named.parent), shown, base)
        return str(path if named.name in ("", "..") else parent / named.name)

    def recipe_file(self, given: str, where: str) -> Path:
        """The file of a recipe that a parameter or an event names by its path.

        Raises:
            InputError: It lies outside the allowed folders.
        """
        if _local_path(given) is None:
            raise InputError("a recipe is a local file, not a URL", where=f"{where}: {given}")
        return Path(self.place(given, where)).resolve()

    def file(self, path: Path, where: str) -> Path:
        """The file to open for a path that `place` gave, or one below it, without links.

        Raises:
            InputError: A link in it leads to where a recipe of this origin may not read.
        """
        real = _resolved(str(path), where, None)
        if not self.by_a_person and not self._in_allowed_folder(real):
            raise self._refused("where this path leads", where)
        return real

    def model_uri(self, uri: str, where: str) -> str:
        """A model of the configured MLflow server.

        Raises:
            InputError: It is no such URI.
        """
        if _MODEL_URI.match(uri) is None or ".." in uri.split("/"):
            raise InputError(
                "this is no model of the MLflow server",
                where=f"{where}: {uri}",
                do="give models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN/NAME",
            )
        return uri

    def model_location(
        self, location: str, where: str, tracking: str, artifacts: str | None
    ) -> Path | None:
        """The local path of a model, if the registry says that it has one; else None.

        Whoever may write to a registry chooses the location of what is registered.

        Args:
            location: Where the registry says that the model's files are.
            where: The field, and the model.
            tracking: The MLflow server.
            artifacts: The folder of an embedded server's artifacts.

        Raises:
            InputError: A recipe of this origin may not read it.
        """
        local = _local_path(location)
        if local is None or location.startswith("mlflow-artifacts:"):
            theirs, ours = urlsplit(location), urlsplit(tracking)
            proxied = theirs.scheme == "mlflow-artifacts" and theirs.netloc in ("", ours.netloc)
            same = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
            if "::" in location or not (proxied or same):
                self._check_url(location, where)
            return None
        path = _resolved(local, where, None)
        own = artifacts is not None and path.is_relative_to(Path(artifacts).resolve())
        if not own and not self.by_a_person and not self._in_allowed_folder(path):
            raise self._refused(f"the registered model's files at {location}", where)
        return path

    def address(self, host: str, where: str, *, named: bool = False) -> None:
        """Refuse a host whose addresses serve this machine only: metadata, link-local, loopback.

        Args:
            host: A name or an address, in any spelling.
            where: The field, and its value.
            named: Whether `HONE_ALLOWED_PATHS` names the host, so that loopback is meant.

        Raises:
            InputError: It has such an address.
        """
        for found in _addresses(host):
            if found.is_loopback and (named or self.by_a_person):
                continue
            inside = found.is_loopback or found.is_link_local or found.is_unspecified
            if inside or found.is_multicast or str(found) in _METADATA:
                raise InputError(
                    f"'{host}' is an address within this machine or its cloud, which a recipe may "
                    "not reach",
                    where=where,
                    do="give a URL of the server that keeps your models",
                )

    def _check_url(self, url: str, where: str) -> None:
        """Refuse a URL that this origin may not read.

        Raises:
            InputError: It may not.
        """
        what = "the weights" if "weights" in where.partition(":")[0] else "it"
        named = any(_is_under(url, prefix) for prefix in self.paths if "://" in prefix)
        if not named:
            if not self.by_a_person:
                raise self._refused("this URL", where)
            if "::" in url:
                raise InputError(
                    f"{what} can't be read: a URL within a URL is not supported",
                    where=where,
                    do=f"download the file first, or name the prefix in {PATHS}",
                )
            scheme = url.partition("://")[0].lower()
            if scheme not in _SCHEMES:
                raise InputError(
                    f"{what} can't be read: '{scheme}' is not one of the supported kinds of URL "
                    f"({', '.join(sorted(_SCHEMES))})",
                    where=where,
                    do=f"download the file first, or name the prefix in {PATHS}",
                )
        for part in url.split("::"):
            try:
                parsed = urlsplit(part)
                host = parsed.hostname
            except ValueError:
                raise InputError("this is not a URL", where=where) from None
            if parsed.scheme.lower() in _HOSTS and host:
                self.address(host, where, named=named)

    def _in_allowed_folder(self, path: Path) -> bool:
        for entry in self.paths:
            folder = _local_path(entry)
            if folder is not None and path.is_relative_to(Path(folder).expanduser().resolve()):
                return True
        return False

    def _refused(self, what: str, where: str) -> InputError:
        return InputError(
            f"{self.origin.in_words} may not read {what}",
            where=where,
            do=f"name its folder or URL prefix in {PATHS} where the worker runs, or give a model "
            "of the MLflow server (models:/NAME/VERSION)",
        )


def _local_path(given: str) -> str | None:
    """The local path that a string means, `file://` included; None if it is another URL."""
    scheme, separator, rest = given.partition("://")
    if scheme.lower() in ("file", "local") and separator and "::" not in given:
        return unquote(rest)
    if given.lower().startswith(("file:/", "local:/")) and "::" not in given:
        return unquote(given.partition(":")[2])
    return None if separator or "::" in given else given


def _resolved(path: str, where: str, base: Path | None) -> Path:
    """An absolute path without links.

    Raises:
        InputError: It can't be one.
    """
    try:
        expanded = Path(path).expanduser()
        if len(path) > _LONGEST_PATH or any(len(p.encode()) > 255 for p in expanded.parts):
            raise ValueError("no file system has such names")
        return (expanded if base is None else base / expanded).resolve()
    except (OSError, RuntimeError, ValueError):
        raise InputError("this is not a path", where=where) from None


def _is_under(url: str, prefix: str) -> bool:
    """Whether a URL lies under a prefix: the same chain of protocols and host, and a path below."""
    clean = unquote(unquote(url))
    if _UNCLEAN.search(clean) or ".." in re.split(r"[/:;?#]", clean):  # `/..;/` is `/../` to some
        return False
    if url.count("::") != prefix.count("::"):
        return False
    below, start = _lowered(url), _lowered(prefix.rstrip("/"))
    return below == start or below.startswith(f"{start}/")


def _lowered(url: str) -> str:
    """With scheme and host in lower case, which are the same in any."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}"


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Every address of a host, also of one written as a single number; none if there is none."""
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return []
    return [_meant(ipaddress.ip_address(text.partition("%")[0])) for text in found]


def _meant(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address stands for; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if any(address in network for network in _WITH_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    behind = address.teredo
    return address.ipv4_mapped or address.sixtofour or (behind[1] if behind else address)
