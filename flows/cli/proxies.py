"""Proxies of the environment, and servers on this machine.

Where `http_proxy` and the like are set, the clients of Prefect and MLflow send requests to
127.0.0.1 to the proxy, too, which can't reach this machine's servers.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def reach_this_machine_directly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine to the hosts that no proxy is asked for, if there is a proxy.

    Args:
        environment: Changed in place; processes that are started inherit it.
    """
    by_lower_name = {name.lower(): name for name in environment if environment[name]}
    if not any(name in by_lower_name for name in _PROXIES):
        return
    # `urllib`, requests and httpx prefer the lower-case name; some programs read only the other.
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    if "*" in hosts:
        return
    all_hosts = ",".join([*hosts, *(host for host in _THIS_MACHINE if host not in hosts)])
    environment["no_proxy"] = environment["NO_PROXY"] = all_hosts
