"""Is a request to the listener what MLflow sent, and sent just now? Checked on the raw bytes.

MLflow signs `DELIVERY_ID.TIMESTAMP.BODY` with HMAC-SHA256 and the webhook's secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

SIGNATURE = "x-mlflow-signature"
TIMESTAMP = "x-mlflow-timestamp"
DELIVERY = "x-mlflow-delivery-id"
#: How old, or how far in the future, a delivery may be (s).
TOLERANCE = 300.0

_VERSION = "v1,"
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECONDS = re.compile(r"[0-9]{1,12}")


class Refused(Exception):
    """A request that nothing comes of.

    Args:
        status: Of the HTTP response.
        reason: In a few words, for its sender and the metrics.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def check_signature(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> str:
    """Check a delivery; returns its id.

    Args:
        headers: Of the request, with names in lower case.
        body: Its raw bytes.
        secrets: Any of them may have signed it; two while a secret is being replaced.
        now: Seconds since 1970.

    Raises:
        Refused: It is forged, old, or not signed at all.
    """
    given = headers.get(SIGNATURE, "")
    delivery, stamp = headers.get(DELIVERY, ""), headers.get(TIMESTAMP, "")
    if not given:
        raise Refused(401, "no signature")
    if not _ID.fullmatch(delivery) or not _SECONDS.fullmatch(stamp):
        raise Refused(400, "no valid delivery id and timestamp")
    signed = f"{delivery}.{stamp}.".encode() + body
    claimed = _decoded(given)
    matches = [
        hmac.compare_digest(hmac.new(secret.encode(), signed, hashlib.sha256).digest(), claimed)
        for secret in secrets
    ]
    if not any(matches):
        raise Refused(401, "wrong signature")
    if abs(now - int(stamp)) > TOLERANCE:
        raise Refused(401, "too old")
    return delivery


def _decoded(signature: str) -> bytes:
    if not signature.startswith(_VERSION):
        return b""
    try:
        return base64.b64decode(signature.removeprefix(_VERSION), validate=True)
    except (binascii.Error, ValueError):
        return b""
