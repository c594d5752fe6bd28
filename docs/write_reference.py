"""Writes `docs/reference.md` from the schema, the command line, the flows and the names in MLflow.

`python docs/write_reference.py`; `tests/test_docs.py` fails if the file is not what this writes.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
FLOWS = ("accelerate", "train", "optimize", "benchmark", "promote", "rollback", "reconcile")

#: Variables that Hone itself reads, by what they are for. Those of MLflow, Prefect and Ray are in
#: their own documentation; named here are the ones that say where the servers are.
VARIABLES = {
    "Locations": {
        "HONE_HOME": "Folder of everything that Hone keeps on this machine. Default `~/.hone`.",
        "HONE_STORE": "Artifact store, any fsspec URL. Default `HONE_HOME/store`.",
        "MLFLOW_TRACKING_URI": "MLflow server. Default: an SQLite store in `HONE_HOME`.",
        "PREFECT_API_URL": "API of the Prefect server. Default: a temporary server for each run.",
        "RAY_ADDRESS": "Ray cluster. Default: a cluster on this machine for each run.",
        "HONE_SERVERS_BLOCK": "Name of the Prefect block with these locations and their "
        "credentials, for flow runs of deployments.",
        "HONE_RAY_RUNTIME": "Ray's runtime environment on a joined cluster, as a JSON object.",
        "HONE_ENVIRONMENTS": "Folder of the isolated environments of targets. Default "
        "`HONE_HOME/environments`.",
    },
    "Permissions and keys": {
        "HONE_ALLOWED_PREFIXES": "Packages, modules and functions (`package.module:function`) that "
        "a recipe may name, separated by commas.",
        "HONE_ALLOWED_PATHS": "Folders and URL prefixes that recipes from a form or an event may "
        "read, separated by commas.",
        "HONE_STORE_KEY_FILE": "File with the key that signs the records of a shared store.",
        "HONE_STORE_KEY": "The key itself, at least 32 characters. Default: `HONE_HOME/store.key`.",
        "HONE_UNPROVEN": "`warn`: go on with a model whose outputs here are not the measured ones.",
        "HONE_WEBHOOK_SECRET": "Secret of MLflow's webhook, for `hone listen`.",
    },
    "Behavior of deployments": {
        "HONE_RULES": "Rules file of `hone listen` and the flow `reconcile`.",
        "HONE_GATES": "Gates of deployed recipes that have none, as a JSON list.",
        "HONE_MEASURING_LIMIT": "Prefect's global concurrency limit that a measurement takes.",
    },
    "Logs and metrics": {
        "HONE_LOG_FORMAT": "`json`: log lines as JSON objects. Default `text`.",
        "HONE_METRICS_FILE": "File, ending in `.prom`, for the node exporter's textfile collector.",
        "HONE_METRICS_PUSH": "URL of a Prometheus push gateway.",
    },
    "Installation": {
        "HONE_TORCH": "Build of torch that `make` installs: `auto`, `cpu` or `cuda`.",
    },
}


def reference() -> str:
    """The text of the page."""
    parts = [
        "# Reference",
        "<!-- Written by docs/write_reference.py. Don't edit it by hand. -->",
        "Generated from the schema of recipes, the command line, the flows and the names that Hone "
        "uses in MLflow.",
        *_recipe(),
        *_measures(),
        *_commands(),
        *_flows(),
        *_variables(),
        *_names(),
    ]
    return "\n\n".join(parts) + "\n"


def _recipe() -> Iterator[str]:
    from prefect_hone.recipe.schema import Recipe

    yield "## Recipe"
    yield (
        "A recipe is a YAML, TOML or Python file. Unknown fields are errors. Passes, targets, "
        "optimizers and objectives are chosen by the field that is fixed in their tables (`kind`, "
        "`scheme`, `method`, `name`). A target can be only its name."
    )
    for model in _models(Recipe):
        yield f"### {_title(model)}"
        yield _sentence(model)
        yield _table(("field", "type", "default", "description"), list(_fields(model)))


def _fixed(model: type[BaseModel]) -> list[str]:
    """What a recipe writes to choose this one of several: `quantize` and `static-int8`."""
    fixed = []
    for name in ("kind", "method", "scheme", "name"):
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is Literal and field.is_required():
            fixed += [str(value) for value in get_args(field.annotation)]
    return fixed


def _title(model: type[BaseModel]) -> str:
    fixed = _fixed(model)
    return f"{model.__name__} ({', '.join(fixed)})" if fixed else model.__name__


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def _models(first: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and every one that its fields hold, each once, from the outside to the inside."""
    found: list[type[BaseModel]] = []
    waiting = [first]
    while waiting:
        model = waiting.pop(0)
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += _inner(field.annotation)
    return found


def _inner(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _inner(part)]


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        limits = _limits(field)
        yield (
            f"`{name}`",
            _type(field.annotation) + (f", {limits}" if limits else ""),
            _default(field),
            field.description or "",
        )


def _type(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(args[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        rest = [_type(part) for part in args if part is not type(None)]
        return (", " if len(rest) > 2 else " or ").join(dict.fromkeys(rest))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return f"list of {_type(args[0])}"
    if origin in (tuple, list):
        return f"list of {len(args)} {_type(args[0])}" if origin is tuple else "list"
    if origin is dict or kind is dict:
        return "mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fixed = _fixed(kind)
        shown = f"`{fixed[-1]}`" if fixed else kind.__name__
        return f"[{shown}](#{slug(_title(kind))})"
    names = {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}
    return names.get(kind, "value") if isinstance(kind, type) else "value"


def _limits(field: FieldInfo) -> str:
    words = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
    return ", ".join(
        text.format(f"{getattr(mark, name):g}")
        for mark in field.metadata
        for name, text in words.items()
        if getattr(mark, name, None) is not None
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return "derived"
    return _value(field.default)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", exclude_unset=True)
        return f"`{json.dumps(said)}`" if said else "its defaults"
    if isinstance(value, tuple):
        plain = [v.model_dump(mode="json", exclude_unset=True) if isinstance(v, BaseModel) else v
                 for v in value]  # fmt: skip
        return f"`{json.dumps(plain)}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _sentence(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _measures() -> Iterator[str]:
    from prefect_hone.recipe.measures import MEASURES
    from prefect_hone.recipe.metrics import LOSSES, METRICS

    yield "## Metrics, losses and measures"
    ways = {True: "higher", False: "lower", None: "as the metric"}
    yield _table(
        ("metric", "unit", "better", "outputs and targets"),
        [(f"`{name}`", m.unit, ways[m.higher_is_better], m.takes) for name, m in METRICS.items()],
    )
    yield f"Losses: {', '.join(f'`{name}`' for name in LOSSES)}."
    yield (
        "Gates and `select` name measures. `quality.value` can also be named after the recipe's "
        "metric (`quality.accuracy`). A measure with an interval also has `NAME_low` and "
        "`NAME_high`, the bounds of its 95 % interval. Measures per batch size take the gate's "
        "`batch_size`; in MLflow, other sizes than the first end in `_batch_SIZE`."
    )
    yield _table(
        ("measure", "unit", "better", "interval", "per batch size", "in MLflow"),
        [
            (
                f"`{m.name}`",
                m.unit,
                ways[m.higher_is_better],
                "yes" if m.has_interval else "",
                "yes" if m.per_batch else "",
                f"`{m.mlflow('METRIC')}`",
            )
            for m in MEASURES.values()
        ],
    )


def _commands() -> Iterator[str]:
    from prefect_hone.flows.cli.app import app

    yield "## Commands"
    command: Any = typer.main.get_command(app)
    yield from _command("hone", command)


def _command(path: str, command: Any) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        whole = f"{path} {name}"
        if getattr(inner, "commands", None):
            yield from _command(whole, inner)
            continue
        yield f"### {whole}"
        yield re.sub(r"\s*\n\s*(?!\n)", " ", (inner.help or "").replace("\n\n", "\0")).replace(
            "\0", "\n\n"
        )
        rows = [_parameter(parameter) for parameter in inner.params if parameter.name != "help"]
        if rows:
            yield _table(("argument or option", "default", "description"), rows)


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).upper()
        shown = f"`{name}`" if parameter.required else f"`[{name}]`"
    else:
        shown = ", ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    said = "" if default in (None, False, [], (), "") or callable(default) else f"`{default}`"
    return shown, "required" if parameter.required else said, parameter.help or ""


def _flows() -> Iterator[str]:
    yield "## Flows"
    yield (
        "Each flow is a deployment `FLOW/hone` after `hone serve` or `hone setup --pool POOL`. "
        "These are the fields of its form in the Prefect UI."
    )
    for name in FLOWS:
        tree = ast.parse((ROOT / "flows" / f"{name}.py").read_text(encoding="utf-8"))
        function = next(
            n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name
        )  # fmt: skip
        text = ast.get_docstring(function) or ""
        yield f"### Flow {name}"
        yield _described(function)
        told = _arguments(text)
        named = function.args.args
        defaults = [None] * (len(named) - len(function.args.defaults)) + list(
            function.args.defaults
        )
        yield _table(
            ("parameter", "default", "description"),
            [
                (f"`{arg.arg}`", "required" if d is None else f"`{ast.unparse(d)}`", told[arg.arg])
                for arg, d in zip(named, defaults, strict=True)
            ],
        )


def _described(function: ast.FunctionDef) -> str:
    """The description in the flow's decorator."""
    for decorator in function.decorator_list:
        for keyword in getattr(decorator, "keywords", ()):
            if keyword.arg == "description":
                return str(ast.literal_eval(keyword.value))
    return ""


def _arguments(docstring: str) -> dict[str, str]:
    """The section `Args` of a docstring."""
    section = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for item in re.split(r"\n(?=    \w+: )", f"\n{section}"):
        name, _, text = item.strip().partition(": ")
        if text:
            found[name] = " ".join(text.split())
    return found


def _variables() -> Iterator[str]:
    yield "## Environment variables"
    for title, variables in VARIABLES.items():
        yield f"### {title}"
        yield _table(
            ("variable", "meaning"), [(f"`{name}`", text) for name, text in variables.items()]
        )


def _names() -> Iterator[str]:
    from prefect_hone.tasks.tracking import names

    yield "## Names in MLflow"
    yield (
        "Names of runs, and tags of runs, logged models and versions. Your own queries may rely on "
        "them."
    )
    section, note, rows = "", "", []
    for line in inspect.getsource(names).splitlines():
        if line.startswith("# "):
            section, note = line.removeprefix("# "), ""
        elif line.startswith("#: "):
            note = line.removeprefix("#: ")
        elif not line.strip():
            section, note = "", ""
        match = re.match(r"([A-Z][A-Z0-9_]*) = ", line)
        if match:
            rows.append((f"`{getattr(names, match[1])}`", note or section))
    yield _table(("name", "of what"), rows)
    yield _table(
        ("name", "meaning"),
        [
            (f"`{names.gate_tag('MEASURE')}`", "Whether a candidate passed a gate."),
            (f"`{names.computed_in('STEP')}`", "The run that a cached step was computed in."),
            (f"`{names.of_champion('METRIC')}`", "A metric of the champion, in the parent run."),
            (f"`{names.of_baseline('METRIC')}`", "A metric of the baseline, in the parent run."),
            ("`NAME.ledger`", "The registered model whose versions are the ledger of `NAME`."),
        ],
    )


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [_row(headers), _row(("---",) * len(headers)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(c.replace("|", "\\|").split()) for c in cells) + " |"


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"wrote {REFERENCE.relative_to(ROOT)}\n")
