"""Downloads of weights that a recipe names by URL; each address on the way is asked for.

A safetensors file says in its first bytes how long it is. So what is no such file is refused before
the rest is read, no server can send more than it has said, and nothing is downloaded that the disk
has no room for.
"""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin

import fsspec

from ...ray_workers.model.file_kinds import safetensors_size
from ...recipe.access_policy import AccessPolicy
from ...recipe.errors import InputError

_CONNECTING, _SILENCE = 30.0, 120.0  # s
_SLOWEST, _AFTER = 10_000, 600.0  # bytes/s, and after how long (s) a slower server is given up
_SPARE = 256 * 2**20  # bytes that stay free on the disk


def fetch(url: str, target: Path, access: AccessPolicy, where: str) -> None:
    """Download a safetensors file.

    Args:
        url: The URL, which `access` permits.
        target: The file to write.
        access: What the recipe may reach. A server can redirect, and a name can change its
            address, so it is asked again for both.
        where: The field, and the URL.

    Raises:
        InputError: A redirect leads to where the recipe may not go, the file is no safetensors
            file, or it is too large.
        OSError: It can't be read, or another error of the file system's package.
    """
    target.touch(mode=0o600)
    if url.lower().startswith(("http://", "https://")):
        fs: Any = fsspec.filesystem("http", get_client=_client(access, where),
                                    skip_instance_cache=True)  # fmt: skip
        with target.open("wb") as stream:
            fs.get_file(url, _Measured(stream, target.parent, where))
        return
    fs, path = fsspec.core.url_to_fs(url)
    size = fs.info(path).get("size")
    _check_room(size if isinstance(size, int) else 0, target.parent, where)
    fs.get_file(path, str(target))


class _Measured:
    """A file to write to that takes no more than the safetensors file says that it has.

    Args:
        stream: The file.
        folder: Its folder, on whose disk there must be room.
        where: What an error calls it.
    """

    def __init__(self, stream: BinaryIO, folder: Path, where: str) -> None:
        self._stream, self._folder, self._where = stream, folder, where
        self._head, self._written = bytearray(), 0
        self._whole: int | None = None
        self._look_at = 0  # bytes: a header may have 100 MB, and comes in small parts
        self._began = time.monotonic()

    def write(self, part: bytes) -> int:
        """Raises InputError: it is no safetensors file, or longer than it says."""
        if self._whole is None:
            self._head += part
            self._read_size()
        self._written += len(part)
        seconds = time.monotonic() - self._began
        if seconds > _AFTER and self._written < _SLOWEST * seconds:
            raise unusable_weights(
                f"the server is too slow: {self._written:,} bytes in {seconds:.0f} s", self._where
            )
        if self._whole is not None and self._written > self._whole:
            raise unusable_weights("the server sends more than the file says it has", self._where)
        return self._stream.write(part)

    def _read_size(self) -> None:
        """Read the size of the whole once all of the header is there."""
        if len(self._head) < self._look_at:
            return
        try:
            self._whole = safetensors_size(bytes(self._head))
        except ValueError as error:
            raise unusable_weights(str(error), self._where) from None
        if self._whole is not None:
            _check_room(self._whole, self._folder, self._where)
            self._head.clear()
        elif len(self._head) > 8:
            self._look_at = max(self._look_at, 8 + int.from_bytes(self._head[:8], "little"))

    def tell(self) -> int:
        return self._written

    def read(self, _: int = -1) -> bytes:
        return b""

    def close(self) -> None:
        """Closed by the one who opened the stream."""


def unusable_weights(problem: str, where: str) -> InputError:
    """The error for a file that is not the safetensors file that it should be."""
    return InputError(
        f"the weights can't be loaded: {problem}",
        where=where,
        do="give the safetensors file of this very model (safetensors.torch.save_model writes it)",
    )


def _check_room(size: int, folder: Path, where: str) -> None:
    """Refuse what the disk has no room for.

    Raises:
        InputError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if size > free - _SPARE:
        raise InputError(
            f"the weights have {size / 1e9:,.1f} GB, and {folder} has {free / 1e9:,.1f} GB free",
            where=where,
            do="free some space, or set TMPDIR to a folder with more",
        )


def _client(access: AccessPolicy, where: str) -> Any:
    """What makes the HTTP client, with a check of each redirect and each resolved address."""
    import aiohttp

    async def on_request(_: Any, __: Any, params: Any) -> None:
        # As the client reads the URL: no resolver is asked about an address in it.
        access.address(params.url.host or "", where, named=bool(access.paths))

    async def on_redirect(_: Any, __: Any, params: Any) -> None:
        location = params.response.headers.get("Location", "")
        access.place(urljoin(str(params.response.url), location), f"{where} redirects to")

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> Any:
            found = await super().resolve(host, port, family)
            for answer in found:
                access.address(answer["host"], where, named=bool(access.paths))
            return found

    async def made(**options: Any) -> aiohttp.ClientSession:
        options.pop("loop", None)
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(on_request)
        trace.on_request_redirect.append(on_redirect)
        connector = aiohttp.TCPConnector(resolver=Resolver())
        return aiohttp.ClientSession(
            connector=connector,
            trace_configs=[trace],
            # By default aiohttp ends any download after 5 minutes, however fast it is.
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECTING, sock_read=_SILENCE),
            headers={"Accept-Encoding": "identity"},
            **options,
        )

    return made
