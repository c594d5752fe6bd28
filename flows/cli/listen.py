"""`hone listen`: start deployments on events of the model registry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from ...recipe.errors import InputError
from ...tasks.tracking.registry_view import RegistryView
from ..engine.home import usable_settings
from ..engine.settings import Settings
from ..logs import as_json, use_service_log
from ..operate.listener import Listener
from ..operate.listener_metrics import ListenerMetrics
from ..operate.listener_state import ListenerState
from ..operate.registration import register, require_server
from ..operate.rules import Rule, are_default, configured_rules, read_rules
from ..operate.starting import PrefectStarter
from ..operate.watching import Watcher
from ..operate.webhook import PATH, create_app
from .deploy import server_for

SECRET = "HONE_WEBHOOK_SECRET"  # noqa: S105 (the variable's name)
_SHORTEST_SECRET = 16


@dataclass(frozen=True)
class ListenOptions:
    """The options of `hone listen`."""

    rules: str | None
    host: str
    port: int
    secret_env: Sequence[str]
    secret_block: Sequence[str]
    poll: float
    url: str | None
    register: bool


def listen_command(console: Console, options: ListenOptions) -> None:
    """Listen until the process is ended, or register the webhook.

    Raises:
        HoneError: The rules, the secret or a server is wrong.
    """
    rules = read_rules(options.rules) if options.rules else configured_rules()
    server_for("hone listen")
    settings = usable_settings()
    require_server(settings.tracking)
    secrets = read_secrets(options.secret_env, options.secret_block)
    starter = PrefectStarter()
    if not are_default(rules):
        starter.check(rules)
    if options.register:
        _register(console, options, settings, rules, secrets[0])
        return
    if options.url is not None:
        raise InputError("an address is for --register", where="--url", do="add --register")
    _listen(console, options, settings, rules, secrets, starter)


def _register(
    console: Console, options: ListenOptions, settings: Settings, rules: Sequence[Rule], secret: str
) -> None:
    if options.url is None:
        raise InputError(
            "MLflow needs the address to deliver to",
            where="--register",
            do="give --url https://HOST, as the MLflow server reaches the listener",
        )
    webhook, is_new, wrong = register(settings.tracking, rules, options.url, secret)
    for line in (
        f"{'made' if is_new else 'updated'} the webhook '{webhook.name}' for {webhook.url}",
        f"events   {', '.join(webhook.events)}",
        "an example arrived" if wrong is None else f"an example did not arrive: {wrong}",
        "The secret is kept with the server's MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY: without one, "
        "only the server's process that took it can read it, until it ends.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _listen(
    console: Console,
    options: ListenOptions,
    settings: Settings,
    rules: Sequence[Rule],
    secrets: Sequence[str],
    starter: PrefectStarter,
) -> None:
    import uvicorn

    use_service_log()
    state = ListenerState(settings.listener)
    try:
        watcher = Watcher(rules, RegistryView(settings.tracking), starter, state)
        watcher.begin()
        for rule in rules:
            console.print(f"on {rule.on}: {rule.run}", highlight=False, markup=False)
        console.print(
            f"listening on http://{options.host}:{options.port}{PATH}",
            highlight=False,
            markup=False,
        )
        uvicorn.run(
            create_app(
                Listener(
                    watcher, state, secrets, options.poll, metrics=ListenerMetrics(settings.home)
                )
            ),
            host=options.host,
            port=options.port,
            log_level="warning",
            access_log=False,
            log_config=None if as_json() else uvicorn.config.LOGGING_CONFIG,
            server_header=False,
            limit_concurrency=1000,
            timeout_graceful_shutdown=10,
        )
    finally:
        state.close()


def read_secrets(variables: Sequence[str], blocks: Sequence[str]) -> list[str]:
    """The webhook's secrets: the first one is registered, and a delivery may be signed by any.

    Raises:
        InputError: There is none, or one can be guessed.
    """
    found: list[tuple[str, str]] = []
    names = list(variables) or ([] if blocks else [SECRET])
    for name in names:
        if not os.environ.get(name):
            raise InputError(
                f"the environment variable {name} has no secret",
                where="--secret-env",
                do=f'export {name}="$(openssl rand -base64 32)", or give --secret-block BLOCK',
            )
        found.append((f"--secret-env {name}", os.environ[name]))
    found += [(f"--secret-block {name}", _of_block(name)) for name in blocks]
    for where, secret in found:
        if len(secret) < _SHORTEST_SECRET:
            raise InputError(
                f"a secret of fewer than {_SHORTEST_SECRET} characters can be guessed",
                where=where,
                do="make one with `openssl rand -base64 32`",
            )
    return [secret for _, secret in found]


def _of_block(name: str) -> str:
    from prefect.blocks.system import Secret

    try:
        value = Secret.load(name).get()  # type: ignore[union-attr]
    except ValueError:
        raise InputError(
            f"the Prefect server has no Secret block '{name}'",
            where="--secret-block",
            do="make it in Prefect's UI, under Blocks",
        ) from None
    if not isinstance(value, str):
        raise InputError(
            f"the Secret block '{name}' holds a {type(value).__name__}, and no text",
            where="--secret-block",
            do="save the secret itself in it",
        )
    return value
