"""Rules: which deployment an event of the model registry starts.

    rules:
      - on: alias candidate set on digits-*
        run: promote/hone
        parameters: {model: "{model}", version: "{version}"}

`on` is one of `version created in MODELS`, `alias NAME set on MODELS` and `tag NAME[=VALUE] set on
MODELS`; names of models, aliases and values of tags may have `*` and `?`. `run` is a deployment,
FLOW/NAME. Parameters may contain {model}, {version}, {alias}, {tag} and {value}.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import Field

from ...recipe.access_policy import AccessPolicy, Origin
from ...recipe.errors import InputError, did_you_mean
from ...recipe.strict import Strict
from ...recipe.text import Source, parse_value, read_text
from ...tasks.tracking.registry_view import is_ledger

#: The rules file of `hone listen`, the flow `reconcile` and `hone doctor`.
RULES = "HONE_RULES"
#: Deployments that `hone serve` makes have this name; a rule may then name the flow alone.
SERVED = "hone"

#: The rules where no file is given: an approval that a person writes into the tag `hone.approval`
#: of a version, in MLflow's page, starts the promotion. When it is done, the tag says by whom, and
#: that is no new approval.
DEFAULT = """
rules:
  - on: tag hone.approval=approved set on *
    run: promote
    parameters:
      {model: "{model}", version: "{version}", who: "the tag in MLflow", reason: "{value}"}
  - on: tag hone.approval=approved:* set on *
    run: promote
    parameters:
      {model: "{model}", version: "{version}", who: "the tag in MLflow", reason: "{value}"}
"""
DEFAULT_NAME = "the default rules"

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FIELDS = ("on", "run", "parameters")


class Kind(StrEnum):
    """What happens in a registry that a rule can name."""

    VERSION = "version"
    ALIAS = "alias"
    TAG = "tag"


_FORMS = (
    (Kind.VERSION, re.compile(r"version created in (?P<models>.+)")),
    (Kind.ALIAS, re.compile(r"alias (?P<name>\S+) set on (?P<models>.+)")),
    (Kind.TAG, re.compile(r"tag (?P<name>[^\s=]+)(=(?P<value>\S+))? set on (?P<models>.+)")),
)
_PLACEHOLDERS = {
    Kind.VERSION: ("model", "version"),
    Kind.ALIAS: ("model", "version", "alias"),
    Kind.TAG: ("model", "version", "tag", "value"),
}


class Rule(Strict):
    """One rule.

    Attributes:
        on: What it waits for, as written.
        kind: What happens.
        models: Which models, with `*` and `?`.
        name: Which alias (with `*` and `?`) or which tag.
        value: Which values of the tag, with `*` and `?`; empty: any.
        run: The deployment, FLOW/NAME.
        parameters: Of the flow run, with placeholders.
        where: Place in the rules file.
    """

    on: str
    kind: Kind
    models: str
    name: str = ""
    value: str = ""
    run: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    where: str = "rules"

    @property
    def identity(self) -> str:
        """What the rule is known by: editing its parameters does not make it another rule."""
        return hashlib.sha256(json.dumps([self.on, self.run]).encode()).hexdigest()[:32]

    def is_about(self, model: str) -> bool:
        """Whether it waits for what happens to a model; a model's ledger is none."""
        return fnmatchcase(model, self.models) and not is_ledger(model)

    def takes_alias(self, alias: str) -> bool:
        return self.kind is Kind.ALIAS and fnmatchcase(alias, self.name)

    def takes_value(self, value: str | None) -> bool:
        """Whether a value of the rule's tag is one that it waits for."""
        return value is not None and (not self.value or fnmatchcase(value, self.value))

    def filled(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The parameters with their placeholders replaced."""
        return {name: _filled(value, values) for name, value in self.parameters.items()}


def read_rules(path: str | Path) -> tuple[Rule, ...]:
    """Read a rules file.

    Raises:
        InputError: It can't be read, or has a mistake.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"the rules can't be read: {reason}",
            where=str(path),
            do=f"give the path of a YAML file, with --rules or in {RULES}",
        ) from None
    return parse_rules(text, str(path))


def rules_of_parameter(given: str) -> tuple[Rule, ...]:
    """The rules that a flow's parameter gives: text, an allowed file, or (empty) the worker's own.

    Without a parameter and a configured file they are `DEFAULT`.

    Raises:
        InputError: They can't be read, or have a mistake.
    """
    text = given.strip()
    if "\n" in text or text.startswith("{"):
        return parse_rules(text, "rules")
    if text:
        access = AccessPolicy.from_environment(Origin.PARAMETER)
        return read_rules(access.recipe_file(text, "rules"))
    return configured_rules()


def configured_rules() -> tuple[Rule, ...]:
    """The rules of `HONE_RULES`; else `DEFAULT`.

    Raises:
        InputError: They can't be read, or have a mistake.
    """
    configured = os.environ.get(RULES)
    return read_rules(configured) if configured else parse_rules(DEFAULT, DEFAULT_NAME)


def are_default(rules: Sequence[Rule]) -> bool:
    """Whether nobody wrote these rules, so that nobody has to have made their deployments."""
    return all(rule.where.startswith(DEFAULT_NAME) for rule in rules)


def parse_rules(text: str, name: str) -> tuple[Rule, ...]:
    """The rules in a YAML text.

    Raises:
        InputError: It has a mistake.
    """
    source = read_text(text, name) if _is_mapping(text) else Source(name, {})
    unknown = [key for key in source.values if key != "rules"]
    listed = source.values.get("rules")
    if unknown or not isinstance(listed, list) or not listed:
        raise InputError(
            "a rules file is a mapping with one field, `rules`: a list with at least one rule",
            where=source.where((unknown[0],)) if unknown else name,
            do="`rules: [{on: version created in MODELS, run: FLOW/NAME}]` has the form",
        )
    rules = tuple(_rule(item, source, index) for index, item in enumerate(listed))
    known: dict[str, str] = {}
    for rule in rules:
        if rule.identity in known:
            raise InputError(f"this is the rule of {known[rule.identity]} once more",
                             where=rule.where)  # fmt: skip
        known[rule.identity] = rule.where
    return rules


def _is_mapping(text: str) -> bool:
    """Whether a text is a mapping or is no YAML at all, which `read_text` then says."""
    import yaml

    try:
        return isinstance(parse_value(text), dict)
    except yaml.YAMLError:
        return True


def _rule(item: Any, source: Source, index: int) -> Rule:
    where = source.where(("rules", index))
    if not isinstance(item, dict):
        raise InputError("a rule is a mapping with `on` and `run`", where=where)
    for key in item:
        if key not in _FIELDS:
            raise InputError(f"a rule has no field '{key}': {did_you_mean(str(key), _FIELDS)}",
                             where=source.where(("rules", index, str(key))))  # fmt: skip
    on, run = item.get("on"), item.get("run")
    if not isinstance(on, str) or not isinstance(run, str) or not run.strip():
        raise InputError("a rule needs `on`, what happens, and `run`, a deployment", where=where)
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InputError("the parameters are a mapping", where=where)
    kind, found = _what(" ".join(on.split()), source.where(("rules", index, "on")))
    rule = Rule(
        on=" ".join(on.split()),
        kind=kind,
        models=found["models"],
        name=found.get("name") or "",
        value=found.get("value") or "",
        run=run.strip() if "/" in run else f"{run.strip()}/{SERVED}",
        parameters={str(name): value for name, value in parameters.items()},
        where=where,
    )
    _check_placeholders(rule, source.where(("rules", index, "parameters")))
    return rule


def _what(on: str, where: str) -> tuple[Kind, dict[str, str | None]]:
    for kind, form in _FORMS:
        match = form.fullmatch(on)
        if match is not None:
            return kind, match.groupdict()
    raise InputError(
        f"'{on}' is nothing that a rule can wait for",
        where=where,
        do="write `version created in MODELS`, `alias NAME set on MODELS` or "
        "`tag NAME=VALUE set on MODELS`",
    )


def _check_placeholders(rule: Rule, where: str) -> None:
    known = _PLACEHOLDERS[rule.kind]
    for text in _texts(rule.parameters):
        for name in _PLACEHOLDER.findall(text):
            if name not in known:
                raise InputError(
                    f"there is no placeholder {{{name}}} for this event: "
                    f"{did_you_mean(name, known)}",
                    where=where,
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return value
