"""`hone deploy` and `hone serve`: the flows on a Prefect server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from rich.console import Console

from ...recipe.errors import InputError, did_you_mean
from ...recipe.load import bundled_recipes, load_recipe
from ...recipe.schema import PromotionMode
from ..engine.deployed_recipe import keep_recipe
from ..operate.deployments import (
    FLOWS,
    HEARTBEAT,
    Asked,
    When,
    deploy,
    require_name,
    serve_all,
)
from ..operate.rules import RULES
from .load import load_for_command
from .prefect_server import configured_url, require_server

RECONCILE_SECONDS = 900.0
MODES = get_args(PromotionMode)


@dataclass(frozen=True)
class DeployOptions:
    """The options of `hone deploy`."""

    recipe: str
    overrides: Sequence[str]
    name: str | None
    pool: str
    queue: str | None
    image: str | None
    when: dict[str, Any]
    promotion: str | None
    tags: Sequence[str]
    at_once: int
    on_worker: bool
    paused: bool


def deploy_command(console: Console, options: DeployOptions) -> None:
    """Create or update a deployment.

    Raises:
        HoneError: The recipe, the schedule or the pool is wrong, or no server answers.
    """
    when = When(**options.when)
    when.schedule()
    for text, where in (
        (options.name, "--name"),
        (options.pool, "--pool"),
        (options.queue, "--queue"),
    ):
        if text is not None:
            require_name(text, where)
    url = server_for("hone deploy")
    name, parameters = _parameters(
        options.recipe, options.overrides, options.promotion, options.on_worker, options.name
    )
    asked = Asked(
        name=name,
        parameters=parameters,
        when=when,
        tags=options.tags,
        pool=options.pool,
        queue=options.queue,
        image=options.image,
        at_once=options.at_once,
        paused=options.paused,
    )
    found = deploy(asked)
    page = f"{url.removesuffix('/api')}/deployments/deployment/{found}"
    for line in (
        f"deployed accelerate/{name} to the work pool {options.pool}",
        f"recipe   {parameters['recipe']}",
        f"Run it   prefect deployment run 'accelerate/{name}'",
        f"See it   {page}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def serve_command(
    console: Console,
    recipes: Sequence[str],
    overrides: Sequence[str],
    when: dict[str, Any],
    promotion: str | None,
    limit: int,
) -> None:
    """Serve the flows, and recipes, until the process is ended.

    Raises:
        HoneError: A recipe or the schedule is wrong, or no server answers.
    """
    planned = When(**when)
    if planned.schedule() is not None and not recipes:
        raise InputError("a schedule needs a recipe to run", where="hone serve", do="name one")
    url = server_for("hone serve")
    # The runs that this process starts must not find modules in the folder it was started in.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))
    served = [Asked(name="hone", flow=flow, when=_when(flow)) for flow in FLOWS]
    for recipe in recipes:
        name, parameters = _parameters(recipe, overrides, promotion, on_worker=False, name=None)
        served.append(Asked(name=name, parameters=parameters, when=planned))
    for asked in served:
        console.print(f"serving  {asked.flow}/{asked.name}", highlight=False, markup=False)
    console.print(f"See them {url.removesuffix('/api')}/deployments", highlight=False, markup=False)
    serve_all(served, limit)


def _when(flow: str) -> When:
    """Who has rules for registry events wants what was lost of them found, too."""
    looks = flow == "reconcile" and bool(os.environ.get(RULES))
    return When(interval=RECONCILE_SECONDS) if looks else When()


def _parameters(
    recipe: str, overrides: Sequence[str], promotion: str | None, on_worker: bool, name: str | None
) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a recipe's deployment; what this machine can check is checked."""
    if promotion is not None and promotion not in MODES:
        raise InputError(
            f"there is no mode '{promotion}': {did_you_mean(promotion, MODES)}", where="--promotion"
        )
    changes = {"overrides": list(overrides)} if overrides else {}
    mode = {"promotion": promotion} if promotion else {}
    if on_worker:
        if name is None:
            raise InputError("a recipe on the worker can't be read here", where="--on-worker",
                             do="give the deployment's --name")  # fmt: skip
        return name, {"recipe": recipe, **changes, **mode}
    if recipe in bundled_recipes():
        loaded = load_recipe(recipe, overrides)
        return name or loaded.name, {"recipe": recipe, **changes, **mode}
    loaded, session = load_for_command(recipe, overrides)
    return name or loaded.name, {"recipe": keep_recipe(loaded, session), **mode}


def server_for(command: str) -> str:
    """The API of the configured Prefect server.

    Raises:
        InputError: None is configured.
        ServerUnreachable: It does not answer.
    """
    url = configured_url()
    if url is None:
        raise InputError(
            "this needs a Prefect server",
            where=command,
            do="`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`",
        )
    require_server(url)
    return url
