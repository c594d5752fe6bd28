"""Commands of a team's servers: deployments, registry events, what Prefect needs.

Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .common import RecipeArgument, SetOption, console_for, exit_with_message

CronOption = Annotated[
    str | None, typer.Option("--cron", help="Run at these times: '0 2 * * *' is every night at 2.")
]


IntervalOption = Annotated[
    float | None, typer.Option("--interval", help="Run every so many seconds.")
]


RruleOption = Annotated[
    str | None, typer.Option("--rrule", help="Run by a recurrence rule of RFC 5545.")
]


TimezoneOption = Annotated[
    str | None, typer.Option("--timezone", help="Of the schedule: Europe/Berlin. Default UTC.")
]


PromotionOption = Annotated[
    str | None, typer.Option("--promotion", help="off, dry-run, approve or auto, for every run.")
]


commands = typer.Typer()


@commands.command()
@exit_with_message
def deploy(
    recipe: RecipeArgument,
    pool: Annotated[str, typer.Option("--pool", help="The work pool whose workers run it.")],
    overrides: SetOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the deployment. Default: the recipe's name.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Work queue of the pool.")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Image for pools that start containers.")
    ] = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RruleOption = None,
    timezone: TimezoneOption = None,
    promotion: PromotionOption = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag of the deployment. Can be repeated.")
    ] = None,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, help="Runs of it at once; more wait.")
    ] = 1,
    on_worker: Annotated[
        bool,
        typer.Option(
            "--on-worker",
            help="RECIPE is a path where the worker runs (an image, a cloned repository); nothing "
            "is put into the store.",
        ),
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Create its schedule paused.")] = False,
) -> None:
    """Create or update a deployment of a recipe on the Prefect server.

    The recipe, its code and its model's files go into the store, from which any worker takes them.
    """
    from ..deploy import DeployOptions, deploy_command

    when = {"cron": cron, "interval": interval, "rrule": rrule, "timezone": timezone}
    deploy_command(
        console_for(),
        DeployOptions(
            recipe=recipe, overrides=overrides or [], name=name, pool=pool, queue=queue,
            image=image, when=when, promotion=promotion, tags=tags or [], at_once=at_once,
            on_worker=on_worker, paused=paused,
        ),
    )  # fmt: skip


@commands.command()
@exit_with_message
def serve(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(help="Recipes to serve too, each on the schedule of the options."),
    ] = None,
    overrides: SetOption = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RruleOption = None,
    timezone: TimezoneOption = None,
    promotion: PromotionOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Flow runs at once.")] = 1,
) -> None:
    """Serve all flows, and recipes on a schedule, from this process until it is ended.

    It needs a Prefect server (PREFECT_API_URL) and no work pool.
    """
    from ..deploy import serve_command

    when = {"cron": cron, "interval": interval, "rrule": rrule, "timezone": timezone}
    serve_command(console_for(), recipes or [], overrides or [], when, promotion, limit)


@commands.command()
@exit_with_message
def listen(
    rules: Annotated[
        str | None, typer.Option("--rules", help="The rules file. Default: HONE_RULES.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8642,
    secret_env: Annotated[
        list[str] | None,
        typer.Option(
            "--secret-env",
            help="Environment variable with the webhook's secret. Default: HONE_WEBHOOK_SECRET. "
            "Given twice, either secret is accepted.",
        ),
    ] = None,
    secret_block: Annotated[
        list[str] | None,
        typer.Option("--secret-block", help="Prefect Secret block with the webhook's secret."),
    ] = None,
    poll: Annotated[
        float,
        typer.Option("--poll", min=0, help="Seconds between looks for lost events; 0: never."),
    ] = 300,
    register: Annotated[
        bool,
        typer.Option("--register", help="Make the webhook on the MLflow server, test it, and end."),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="With --register: the listener as the MLflow server reaches it."
        ),
    ] = None,
) -> None:
    """Start deployments on events of the MLflow registry, by rules, until it is ended.

    It needs a Prefect server (PREFECT_API_URL) and an MLflow server (MLFLOW_TRACKING_URI).
    """
    from ..listen import ListenOptions, listen_command

    listen_command(
        console_for(),
        ListenOptions(
            rules=rules, host=host, port=port, secret_env=secret_env or [],
            secret_block=secret_block or [], poll=poll, url=url, register=register,
        ),
    )  # fmt: skip


@commands.command()
@exit_with_message
def setup(
    pool: Annotated[
        str | None,
        typer.Option("--pool", help="Deploy all flows to this work pool; made if it is missing."),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            "--block",
            help="Save the servers that this environment names as a block, with their credentials, "
            "and let the deployments use it.",
        ),
    ] = None,
    measurements: Annotated[
        int | None,
        typer.Option(
            "--measurements", help="Make a concurrency limit: measurements at once in the team."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")
    ] = False,
    make_pool: Annotated[
        bool,
        typer.Option(
            "--make-pool/--no-make-pool",
            help="Make a missing pool, for processes. A worker of another type makes its own.",
        ),
    ] = True,
) -> None:
    """Create on the Prefect server what Hone needs there. What is there already stays."""
    from ..setup import setup_command

    setup_command(pool, block, measurements, dry_run, make_pool)
