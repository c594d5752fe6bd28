"""The webhooks that the rules need, on the MLflow server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from ...recipe.errors import InputError
from ...tasks.tracking.webhooks import Webhook, Webhooks
from .listener import EVENTS
from .rules import Rule
from .webhook import PATH

#: Of the webhook on the server.
NAME = "hone"


def webhook_url(given: str) -> str:
    """The address that MLflow delivers to: as given, or the listener's path under it.

    Raises:
        InputError: It isn't an address.
    """
    try:
        parsed = urlsplit(given)
        host = parsed.hostname
    except ValueError:
        host = None
    if not host or parsed.scheme not in ("http", "https") or parsed.username or parsed.password:
        raise InputError(
            "this is not an address that MLflow can deliver to",
            where=f"--url {given}",
            do="give https://HOST[:PORT][/PATH], without a user and a password",
        )
    return given if parsed.path.strip("/") else f"{given.rstrip('/')}{PATH}"


def events_of(rules: Sequence[Rule]) -> list[str]:
    """MLflow's names of the events that the rules wait for."""
    kinds = {rule.kind for rule in rules}
    return [f"{entity}.{action}" for (entity, action), kind in EVENTS.items() if kind in kinds]


def register(
    tracking: str, rules: Sequence[Rule], url: str, secret: str, name: str = NAME
) -> tuple[Webhook, bool, str | None]:
    """Make or update the webhook, and let the server deliver an example.

    Returns:
        The webhook, whether it is new, and why the example did not arrive.

    Raises:
        HoneError: The server does not take it, or does not answer.
    """
    require_server(tracking)
    webhooks = Webhooks(tracking)
    made, is_new = webhooks.register(name, webhook_url(url), events_of(rules), secret)
    webhook = next(w for w in webhooks.all() if w.id == made)
    return webhook, is_new, webhooks.test(webhook)


def require_server(tracking: str) -> None:
    """Refuse a store that no server serves, because nothing delivers its events.

    Raises:
        InputError: It is one.
    """
    if not tracking.startswith(("http://", "https://")):
        raise InputError(
            "events come from an MLflow server, and none is configured",
            where=tracking,
            do="start one with `mlflow server`, and set MLFLOW_TRACKING_URI to its address",
        )
