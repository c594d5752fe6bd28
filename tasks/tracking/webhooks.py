"""Webhooks of an MLflow server: make them, test them, and say why they silently don't arrive.

MLflow delivers to https addresses that are public, and encrypts secrets with a key that it makes
anew at each start unless it is given one. Each of these has an environment variable of the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...recipe.errors import AccessRefused, HoneError, InputError, ServerUnreachable
from ...recipe.library_messages import telling
from ...recipe.strict import Strict
from .away import is_away
from .tracker import quiet_mlflow

T = TypeVar("T")

_PAGE = 100
_SCHEMES = "MLFLOW_WEBHOOK_ALLOWED_SCHEMES"
_PRIVATE = "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"
_KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"

#: What MLflow says, what it means, and what to do about it.
_TRAPS = (
    (
        re.compile(r"Invalid webhook URL scheme"),
        "the MLflow server delivers events to https addresses only",
        f"give an https URL; or, where nobody else is on the network, start the MLflow server with "
        f"{_SCHEMES}=https,http",
    ),
    (
        re.compile(r"non-public IP|not a public IP|not a canonical IP"),
        "the MLflow server delivers events to public addresses only",
        f"give a public address; or start the MLflow server with {_PRIVATE}=true",
    ),
    (
        re.compile(r"[Cc]ould not be resolved|[Ff]ailed to resolve|NameResolution|Cannot resolve"),
        "the MLflow server can't resolve the listener's host name",
        "give a name that is known where the MLflow server runs",
    ),
    (
        re.compile(r"SSLError|CERTIFICATE_VERIFY"),
        "the MLflow server doesn't trust the listener's certificate",
        "give the listener's address a certificate that the MLflow server's machine trusts",
    ),
    (
        re.compile(r"Connection refused|NewConnectionError|ConnectTimeout|Max retries"),
        "the MLflow server can't reach the listener",
        "start `hone listen`, and see that the address leads to it from the MLflow server",
    ),
)  # fmt: skip


class Webhook(Strict):
    """A webhook as the server has it."""

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    active: bool


class Webhooks:
    """The webhooks of an MLflow server.

    Args:
        uri: The server.
    """

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        self._uri = uri
        self._client: Any = None

    def all(self) -> list[Webhook]:
        """Every webhook.

        Raises:
            HoneError: The server can't read them.
            ServerUnreachable: It does not answer.
        """
        found: list[Webhook] = []
        token: str | None = None
        while True:
            page = self._page(token)
            found += [_as_ours(webhook) for webhook in page]
            token = page.token
            if not token:
                return found

    def _page(self, token: str | None) -> Any:
        return self._ask(lambda client: client.list_webhooks(_PAGE, token), listing=True)

    def _delete(self, webhook: Webhook) -> None:
        self._ask(lambda client: client.delete_webhook(webhook.id))

    def register(self, name: str, url: str, events: Sequence[str], secret: str) -> tuple[str, bool]:
        """Make a webhook, or bring the one of this name up to date.

        Returns:
            Its id, and whether it is new.

        Raises:
            InputError: The server does not deliver to such an address.
            HoneError: The server can't keep or read webhooks.
            ServerUnreachable: It does not answer.
        """
        same = [webhook for webhook in self.all() if webhook.name == name]
        for surplus in same[1:]:
            self._delete(surplus)
        wanted = {"url": url, "events": list(events), "secret": secret, "status": "ACTIVE"}
        if same:
            kept = self._ask(lambda c: c.update_webhook(same[0].id, name=name, **wanted), url)
        else:
            kept = self._ask(lambda c: c.create_webhook(name=name, **wanted), url)
        for _ in range(3):  # each worker of a server without a lasting key has another one
            self.all()
        return str(kept.webhook_id), not same

    def test(self, webhook: Webhook) -> str | None:
        """Let the server deliver an example to a webhook; returns what is wrong, or None.

        Raises:
            HoneError: The server can't read the webhook.
            ServerUnreachable: It does not answer.
        """
        said = self._ask(lambda c: c.test_webhook(webhook.id), listing=True)
        if said.success:
            return None
        if said.response_status == 401:
            return "the listener has another secret: run `hone listen --register` with its secret"
        if said.response_status is not None:
            return f"the address answers with HTTP {said.response_status}: is it the listener's?"
        what, do = explain(str(said.error_message))
        return f"{what}: {do}" if do else what

    def _ask(
        self, question: Callable[[Any], T], url: str | None = None, listing: bool = False
    ) -> T:
        import mlflow
        from mlflow.exceptions import MlflowException

        try:
            if self._client is None:
                self._client = mlflow.MlflowClient(self._uri, registry_uri=self._uri)
            return question(self._client)
        except Exception as error:
            text = str(error)
            status = error.get_http_status_code() if isinstance(error, MlflowException) else 0
            # A secret that can't be decrypted has no text of its own: the server just fails, and
            # MLflow's client then says how often.
            fails = "too many 500 error" in text or (
                status >= 500 and "failed with exception" not in text
            )
            if listing and fails:
                raise HoneError(
                    "the MLflow server can't read its webhooks: most likely their secrets were "
                    "encrypted with a key that is gone, and no event is delivered",
                    where=self._uri,
                    do=f"start it with {_KEY} set to a lasting key (cryptography's "
                    "Fernet.generate_key()), delete the rows of its table `webhooks`, and run "
                    "`hone listen --register` again",
                ) from error
            if is_away(error):
                raise ServerUnreachable("MLflow does not answer", where=self._uri) from error
            if status in (401, 403):
                raise AccessRefused(
                    "MLflow lets only some of its users make webhooks",
                    where=self._uri,
                    do="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of an "
                    "administrator",
                ) from error
            what, do = explain(text)
            raise InputError(what, where=url or self._uri, do=do) from error


def explain(text: str) -> tuple[str, str | None]:
    """What a message of MLflow's webhooks means, and what to do about it."""
    for pattern, what, do in _TRAPS:
        if pattern.search(text):
            return what, do
    return f"MLflow says: {telling(Exception(text))[:300]}", None


def _as_ours(webhook: Any) -> Webhook:
    return Webhook(
        id=str(webhook.webhook_id),
        name=str(webhook.name),
        url=str(webhook.url),
        events=tuple(str(event) for event in webhook.events),
        active=str(webhook.status) == "ACTIVE",
    )
