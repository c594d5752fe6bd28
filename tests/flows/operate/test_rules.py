"""The rules file: what it can say, and what is refused with which sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_registry import RULES
from prefect_hone.flows.operate.deployments import find_flow
from prefect_hone.flows.operate.rules import (
    DEFAULT,
    Kind,
    parse_rules,
    read_rules,
    rules_of_parameter,
)
from prefect_hone.recipe.errors import InputError


def test_rules_say_what_starts_what() -> None:
    alias, version, tag = parse_rules(RULES, "rules.yaml")
    assert (alias.kind, alias.models, alias.name) == (Kind.ALIAS, "digits-*", "candidate")
    assert (version.kind, version.run) == (Kind.VERSION, "optimize/hone")
    assert (tag.kind, tag.name, tag.value) == (Kind.TAG, "hone.approval", "approved")
    assert alias.is_about("digits-a")
    assert not alias.is_about("my-digits-a")
    assert not alias.is_about("digits-a.ledger"), "each entry of a ledger is a version of it"
    assert version.filled({"model": "raw-a", "version": "3"}) == {"source": "models:/raw-a/3"}
    assert tag.takes_value("approved")
    assert not tag.takes_value("Approved")
    assert alias.where == "rules.yaml:3"


def test_placeholders_are_filled_wherever_a_parameter_is_text() -> None:
    (rule,) = parse_rules(
        'rules: [{on: version created in m, run: f/d, parameters: {a: ["{model}", {b: "{version}"}], c: 1}}]',
        "r",
    )
    filled = rule.filled({"model": "{version}", "version": "7"})
    assert filled == {"a": ["{version}", {"b": "7"}], "c": 1}, "what is filled in is not read again"


def test_by_default_an_approval_in_mlflow_s_page_promotes_and_the_answer_to_it_does_not() -> None:
    rules = parse_rules(DEFAULT, "the default rules")
    for value, taken in (
        ("approved", True),
        ("approved: it is faster on all machines", True),
        ("approved by ann@host: it is faster", False),  # as the promotion then writes
        ("requested", False),
        ("rejected: slow", False),
    ):
        assert any(rule.takes_value(value) for rule in rules) is taken
    filled = rules[1].filled({"model": "m", "version": "3", "value": "approved: yes"})
    assert set(filled) == set(find_flow("promote").parameters.properties) - {"alias"}
    assert filled["reason"] == "approved: yes"


def test_editing_parameters_makes_no_other_rule() -> None:
    one, other = (
        parse_rules(f"rules: [{{on: {on}, run: f/d, parameters: {{a: {a}}}}}]", "r")[0]
        for on, a in (("version created in m", 1), ("version  created in m", 2))
    )
    assert one.identity == other.identity


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a mapping with one field, `rules`"),
        ("rules: []", "at least one rule"),
        ("- on: x", "a mapping with one field"),
        ("rule: [{}]", "a mapping with one field"),
        ("rules: [{on: x, run: [}", "not valid YAML"),
        ("rules: [{run: f/d}]", "a rule needs `on`"),
        ("rules: [{on: version created in m, run: f/d, where: x}]", "no field 'where'"),
        ("rules: [{on: alias candidate moved on m, run: f/d}]", "nothing that a rule can wait for"),
        ("rules:\n  - on: version created in m\n    run: f/d\n    parameters: {a: '{alias}'}\n",
         r"r:4: there is no placeholder \{alias\} for this event"),
        ("rules:\n  - {on: version created in m, run: f/d}\n  - {on: version created in m, run: f/d}\n",
         "r:3: this is the rule of r:2 once more"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_rules(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_rules(text, "r")


def test_a_flow_takes_rules_from_its_parameter_an_allowed_file_or_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    assert len(rules_of_parameter(RULES)) == 3
    with pytest.raises(InputError, match="may not read this path"):
        rules_of_parameter(str(file))
    monkeypatch.setenv("HONE_ALLOWED_PATHS", str(tmp_path))
    assert len(rules_of_parameter(str(file))) == 3
    monkeypatch.delenv("HONE_RULES", raising=False)
    assert rules_of_parameter(" ") == parse_rules(DEFAULT, "the default rules")
    monkeypatch.setenv("HONE_RULES", str(file))
    assert rules_of_parameter("") == read_rules(file)
    with pytest.raises(InputError, match="the rules can't be read: No such file"):
        read_rules(tmp_path / "none.yaml")
