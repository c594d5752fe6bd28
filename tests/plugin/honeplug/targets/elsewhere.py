"""A target that does not run here."""

from __future__ import annotations

from typing import Any

from prefect_hone import Unavailable


class Elsewhere:
    def availability(self, target: Any) -> Unavailable:
        return Unavailable(reason="there is no such chip", do="buy one", installable=False)

    def compile_graph(self, work: Any) -> Any:
        raise AssertionError

    def load(self, folder: Any, options: Any) -> Any:
        raise AssertionError
