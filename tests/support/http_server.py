"""An HTTP server on a free port of this machine, which stands for somebody else's."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers; it logs nothing."""

    def log_message(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def serving(handler: type[Handler]) -> Iterator[int]:
    """The port of a server that is ended afterwards."""
    made = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
