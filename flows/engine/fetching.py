"""Downloads of files that a recipe names by URL; each address on the way is asked for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import fsspec

from ...recipe.access_policy import AccessPolicy


def fetch(url: str, target: Path, access: AccessPolicy, where: str) -> None:
    """Download a file.

    Args:
        url: The URL, which `access` permits.
        target: The file to write.
        access: What the recipe may reach. A server can redirect, and a name can change its
            address, so it is asked again for both.
        where: The field, and the URL.

    Raises:
        InputError: A redirect leads to where the recipe may not go.
        OSError: It can't be read, or another error of the file system's package.
    """
    target.touch(mode=0o600)
    if url.lower().startswith(("http://", "https://")):
        fs: Any = fsspec.filesystem("http", get_client=_client(access, where),
                                    skip_instance_cache=True)  # fmt: skip
        fs.get_file(url, str(target))
        return
    fs, path = fsspec.core.url_to_fs(url)
    fs.get_file(path, str(target))


def _client(access: AccessPolicy, where: str) -> Any:
    """What makes the HTTP client, with a check of each redirect and each resolved address."""
    import aiohttp

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
        trace.on_request_redirect.append(on_redirect)
        connector = aiohttp.TCPConnector(resolver=Resolver())
        return aiohttp.ClientSession(connector=connector, trace_configs=[trace], **options)

    return made
