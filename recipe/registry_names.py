"""Which names a registered model and an alias can have: in MLflow, in its filters and in URLs.

MLflow refuses some only when the alias is moved, after a version was made.
"""

from __future__ import annotations

import re

from .errors import InputError

#: No end of a path, no part of a URL or of a filter, no blanks around it.
MODEL = (
    r"^[^\s/:@?#%\\'\"`\x00-\x1f\x7f](?:[^/:@?#%\\'\"`\x00-\x1f\x7f]*"
    r"[^\s/:@?#%\\'\"`\x00-\x1f\x7f])?$"
)
ALIAS = r"^[A-Za-z][\w-]*$"
LONGEST_MODEL, LONGEST_ALIAS = 200, 100
_LEDGER = ".ledger"


def model_problem(name: str) -> str | None:
    """Why a registered model can't have a name, as what is said of it; None: it can."""
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST_MODEL:
        return f"has {len(name)} characters, and at most {LONGEST_MODEL} are allowed"
    if re.fullmatch(MODEL, name) is None:
        return "has one of : / @ ? # % \\ or a quote, or a blank at an end"
    if name == "." or name.startswith(".."):
        return "would be another folder, as a path"
    if name.endswith(_LEDGER):
        return f"ends in {_LEDGER}, which is for a ledger"
    return None


def alias_problem(alias: str) -> str | None:
    """Why an alias can't be moved to a version, as what is said of it; None: it can."""
    if len(alias) > LONGEST_ALIAS:
        return f"has {len(alias)} characters, and at most {LONGEST_ALIAS} are allowed"
    if re.fullmatch(ALIAS, alias) is None:
        return "must be letters, digits, '_' and '-', a letter first"
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        return "is reserved: MLflow takes it for a version"
    if alias == "previous":
        return "is reserved for the champion before"
    return None


def require_names(model: str | None = None, alias: str | None = None) -> None:
    """Refuse what can't be a model's name or an alias.

    Raises:
        InputError: It can't.
    """
    if model is not None and (problem := model_problem(model)):
        raise InputError(f"the name '{model[:60]}' {problem}", where="model", do="choose another")
    if alias is not None and (problem := alias_problem(alias)):
        raise InputError(f"the alias '{alias[:60]}' {problem}", where="alias", do="choose another")
