"""Standard Webhooks, version 1 signatures (HMAC-SHA256), also under the older `svix-*` header names.

Source: the Standard Webhooks specification, "Signature scheme". Own code, because the reference library takes
timestamps as floats, fails on a list entry without a comma, reads the machine's clock and knows one secret only.
Version 1a (Ed25519) entries are skipped like every version that is not known here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from connectors.signatures.scheme import (
    TOLERANCE_S,
    IdMalformed,
    SignatureRefused,
    SignedAuth,
    Signer,
    any_equal,
    check_id,
    check_timestamp,
    header,
    signer,
)
from streams.errors import UsageError

_SECRET_PREFIX = "whsec_"


class StandardAuth(SignedAuth):
    """`auth: {scheme: standard, secret: whsec_…, tolerance_s: 300}`."""

    scheme: Literal["standard"]
    tolerance_s: int = Field(default=TOLERANCE_S, ge=0)


@dataclass(frozen=True, slots=True)
class Standard:
    """Signs `id.timestamp.body`; the header holds a list, and one good signature in it is enough."""

    signers: tuple[Signer, ...]
    tolerance_s: int

    strict = True
    headers = frozenset(
        f"{family}-{part}" for family in ("webhook", "svix") for part in ("id", "timestamp", "signature")
    )

    def verify(self, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> str:
        family = "svix" if "webhook-signature" not in headers and "svix-signature" in headers else "webhook"
        signatures = _signatures(header(headers, f"{family}-signature"))
        timestamp = header(headers, f"{family}-timestamp")
        message_id = check_id(header(headers, f"{family}-id"), source=f"the header {family}-id")
        if "." in message_id:
            raise IdMalformed(f'the header {family}-id holds ".", which delimits the signed parts')
        check_timestamp(timestamp, now, tolerance_s=self.tolerance_s)
        signed = b"%b.%b.%b" % (message_id.encode("latin-1", "replace"), timestamp.encode(), raw_body)
        if not any_equal([sign(signed) for sign in self.signers], signatures):
            raise SignatureRefused("no v1 signature in the list is right")
        return message_id


def open_standard(settings: StandardAuth) -> Standard:
    """The scheme. Raises UsageError where a secret is not base64."""
    return Standard(tuple(signer(_key(secret), "sha256") for secret in settings.secrets), settings.tolerance_s)


def _key(secret: str) -> bytes:
    text = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise UsageError("a secret of scheme standard is not base64", hint="copy it whole, with its whsec_ prefix")
    return key


def _signatures(listed: str) -> list[bytes]:
    """The decoded v1 entries of the list; other versions, and what is not base64, are passed over."""
    found = []
    for entry in listed.split():
        version, _, text = entry.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except ValueError:
                continue
    return found
