"""What may be shown and kept: text and URLs without the credentials in them.

Two uses. `showable` is for text that somebody reads: a terminal, a log, an error, a tag. `parted`
and `restored` are for data that a run keeps: credentials are taken out of a recipe when it is read,
and put back only where a URL is opened.

What can't be seen in a text is not hidden: a secret in a path (`https://host/hooks/SECRET`), or one
that is in no environment variable and has no name beside it.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
_SHORTEST = 6  # characters of a secret that is searched for by its value

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>`|\\^]*")
_CHAINED = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.\-]*(?:://|::))")
#: Schemes with something else before the `@`: `github://OWNER:REPOSITORY@REF/path`.
_NO_USER = frozenset({"github"})
#: `user:password@host:port`, without a scheme.
_BARE = re.compile(r"(?<![\w/.@*-])[\w.+%-]+:[^\s@/'\"]+@(?=\[?[\w.:-]+\]?:\d+\b)")
_PARAMETER = re.compile(r"([?&;#])([^=&;#?\s]+)=([^&;#\s]*)")
_SECRET_NAME = re.compile(
    r"(?:^|[_.\-])(?:secret|token|passw(?:or)?d|passphrase|pwd|pass|sig|signature|credentials?|"
    r"auth|authorization|session|jwt|sas|ticket|hmac|bearer|code|key)(?:$|[_.\-]|s$)|"
    r"(?:api|access|account|private|secret|encryption|client|shared|signing)[_\-]?key|"
    r"(?:access|auth|id|refresh|session|api)[_\-]?token|client[_\-]?secret|keypairid|"
    r"connection[_\-]?string|^x-(?:amz|goog|ms|oss)-|awsaccesskeyid|googleaccessid",
    re.IGNORECASE,
)
#: Parameters that say which file is meant, however random they look.
_NO_SECRET = re.compile(
    r"version|revision|generation|ref$|commit|sha|md5|digest|etag|checksum|^id$|format|snapshot",
    re.IGNORECASE,
)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/=_.%~\-]{24,}")
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization\b['\"]?\s*[:=]\s*['\"]?(?:\w+\s+)?|"
    r"\bx-api-key\b['\"]?\s*[:=]\s*['\"]?|\b(?:set-)?cookie\b['\"]?\s*:\s*['\"]?|"
    r"\bbearer\s+(?=\S*\d)(?=[\w.~+/=\-]{12,}))[^\s'\",;]+",
    re.IGNORECASE,
)
#: Options as libraries print them: `'secret': 'x'`, `password=x`. A quoted name has a quoted value,
#: and no value is a shape, a type or an object: a model's input may be called `token`.
_OPTION = re.compile(
    r"(?P<name>(?P<quote>['\"])?\b(?:[\w\-]*[_\-])?(?:secret|password|passwd|passphrase|token|"
    r"(?:api|access|account|private|secret|encryption|client)_?key|connection_string|credentials?)"
    r"(?:_access_key)?\b(?(quote)(?P=quote)\s*:\s*(?=['\"])|=(?!=)))"
    r"(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&)}\]'\"]+)",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKENS?|SECRETS?|PASSWORD|PASSWD|PASS|PASSPHRASE|API_?KEY|ACCESS_KEY|ACCOUNT_KEY|"
    r"SECRET_KEY|PRIVATE_KEY|CREDENTIALS?|CONNECTION_STRING|AUTH_STRING|SAS|SIGNATURE)(?:_|$)"
)
_NO_SECRET_VARIABLE = re.compile(r"_(?:PATH|FILE|DIR|URI|URL|EXPIRES?|EXPIRY|MODE|PARALLELISM)$")
#: What a variable or an option with such a name has if it is not a secret (`MAX_TOKENS`): a number,
#: a switch, or how a tensor is told (`token=(8, 16)`, `token=torch.int64`, `token=f32[8, 16]`).
_SETTING = re.compile(
    r"[\d.,e+\-]{0,7}|true|false|enabled|disabled|none|null|[\w.]*[(\[{<].*|"
    r"(?:torch\.|np\.|numpy\.)?(?:b?float|u?int|bool|complex)\d*|tensor|shape",
    re.IGNORECASE,
)
_LEFT_OUT = re.compile(r"(?:://|=)\*{3}\d*(?:@|[&;#]|$)|^\*{3}\d+$")

_remembered: set[str] = set()


def showable(text: str) -> str:
    """A text as it may be shown: URLs without credentials, no tokens of the environment."""
    text = _by_value(text)
    if "://" in text:
        text = _URL.sub(lambda found: _hidden_in(found[0], lambda _: HIDDEN), text)
    if "@" in text:
        text = _BARE.sub(f"{HIDDEN}@", text)
    text = _HEADER.sub(lambda found: f"{found['name']}{HIDDEN}", text)
    return _OPTION.sub(lambda found: f"{found['name']}{_like(found['value'])}", text)


def showable_data(value: Any) -> Any:
    """Plain data with every text in it showable, and with the values of secret names hidden."""

    def shown(name: str, text: str) -> str:
        return HIDDEN if _is_secret_option(name) else showable(text)

    return _mapped(value, shown)


def parted(value: Any) -> tuple[Any, dict[str, str]]:
    """Plain data without credentials, and the texts that had some, by what stands for them.

    Each place has a number of its own, so that two URLs never become the same.

    Raises:
        ValueError: Credentials were left out already: the data come from what a run kept.
    """
    secrets: dict[str, str] = {}
    count = 0

    def part(name: str, text: str) -> str:
        nonlocal count
        if _LEFT_OUT.search(text):
            raise ValueError(text)
        mark = f"{HIDDEN}{count + 1}"
        if _is_secret_option(name) and text:
            shown, taken = mark, [text]
        else:
            taken = []

            def hide(secret: str) -> str:
                taken.append(secret)
                return mark

            shown = _URL.sub(lambda found: _hidden_in(found[0], hide), text)
        if shown != text:
            count += 1
            secrets[shown] = text
            remember(taken)
        return shown

    return _mapped(value, part), secrets


def restored(value: Any, secrets: Mapping[str, str]) -> Any:
    """Data from `parted` with their credentials; also what begins with one of the texts."""

    def restore(_: str, text: str) -> str:
        for shown in sorted(secrets, key=len, reverse=True):
            if text == shown or text.startswith(f"{shown}/"):
                return secrets[shown] + text[len(shown) :]
        return text

    return _mapped(value, restore) if secrets else value


def remember(secrets: Iterable[str]) -> None:
    """Hide these values in every text that this process shows from now on."""
    for secret in secrets:
        for form in {secret, unquote(secret)}:
            if len(form) >= _SHORTEST and HIDDEN not in form:
                _remembered.add(form)


def without_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its `user:password@`, and the two; None if it has none."""
    scheme, separator, rest = url.partition("://")
    cut = _end_of_user(rest) if separator else 0
    if not cut:
        return url, None
    user, _, password = rest[: cut - 1].partition(":")
    remember([password or user])
    return f"{scheme}://{rest[cut:]}", (unquote(user), unquote(password))


def basic_header(user: tuple[str, str] | None) -> dict[str, str]:
    """The Authorization header of a user with a password; empty for None."""
    if user is None:
        return {}
    return {"Authorization": f"Basic {b64encode(':'.join(user).encode()).decode()}"}


def _hidden_in(chain: str, hide: Callable[[str], str]) -> str:
    """A URL, or several chained by `::`, with each secret replaced by what `hide` gives for it."""
    if "::" not in chain:
        return _hidden_in_one(chain, hide)
    return "::".join(_hidden_in_one(url, hide) for url in _CHAINED.split(chain))


def _hidden_in_one(url: str, hide: Callable[[str], str]) -> str:
    scheme, separator, rest = url.partition("://")
    cut = _end_of_user(rest) if separator and scheme not in _NO_USER else 0
    if cut:
        user = rest[: cut - 1]
        shown = hide(user)
        if ":" in user:
            hide(user.partition(":")[2])  # by itself it is in messages, too
        rest = f"{shown}@{rest[cut:]}"

    def parameter(found: re.Match[str]) -> str:
        mark, name, value = found.groups()
        secret = value and (
            _SECRET_NAME.search(unquote(name))
            or (_RANDOM.fullmatch(value) and not _NO_SECRET.search(name))
        )
        return f"{mark}{name}={hide(value)}" if secret else found[0]

    return f"{scheme}{separator}{_PARAMETER.sub(parameter, rest)}"


def _end_of_user(rest: str) -> int:
    """Where the host begins in `user:password@host/path`; 0: at the beginning.

    A password that is not percent-encoded may hold `/`, `?`, `#` and `@`.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rindex("@") + 1
    head, colon, port = authority.partition(":")
    unfinished = colon and not head.startswith("[") and not port.isdigit() and port
    return rest.rindex("@") + 1 if unfinished and "@" in rest else 0


def _by_value(text: str) -> str:
    for secret in sorted({*_remembered, *_of_environment()}, key=len, reverse=True):
        if secret in text:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", HIDDEN, text)
    return text


def _of_environment() -> Iterator[str]:
    """Secrets in this process's environment: by the name of a variable, or in its URL."""
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and not _NO_SECRET_VARIABLE.search(name):
            for form in {value, value.partition(":")[2], quote(value, safe="")}:
                if len(form) >= _SHORTEST and not _SETTING.fullmatch(form):
                    yield form
        elif "://" in value and len(value) < 10_000:
            taken: list[str] = []

            def keep(secret: str, taken: list[str] = taken) -> str:
                taken.append(secret)
                return HIDDEN

            _URL.sub(lambda found, keep=keep: _hidden_in(found[0], keep), value)  # type: ignore[misc]
            for secret in taken:
                for form in {secret, unquote(secret)}:
                    if len(form) >= _SHORTEST:
                        yield form


def _is_secret_option(name: str) -> bool:
    """Whether an argument of this name is a secret; `key` and `code` alone are too common."""
    plain = name.lower()
    return plain not in ("key", "code", "session", "auth", "pass", "sig") and bool(
        re.search(
            r"(?:^|_)(?:secret|password|passwd|passphrase|api_key|access_key|account_key|"
            r"private_key|secret_key|client_secret|sas_token|auth_token|access_token|hf_token|"
            r"connection_string)$|^token$",
            plain,
        )
    )


def _like(value: str) -> str:
    if _SETTING.fullmatch(value):
        return value
    return f"{value[0]}{HIDDEN}{value[0]}" if value[0] in "'\"" else HIDDEN


def _mapped(value: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    """Plain data with each text changed; `change` gets the name that it has, too."""
    if isinstance(value, str):
        return change(name, value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(inner, change, name) for inner in value)
    return value
