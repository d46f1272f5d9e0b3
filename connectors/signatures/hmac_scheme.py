"""A plain HMAC in any header: of the body, or of a template that joins the body with headers.

For senders that have no scheme of their own here: say which header, prefix, encoding and hash they use.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from connectors.signatures.scheme import (
    TOLERANCE_S,
    SignatureRefused,
    SignedAuth,
    Signer,
    any_equal,
    check_id,
    check_timestamp,
    header,
    signer,
)

_PLACE = re.compile(r"\{(body|timestamp|id|header:[A-Za-z0-9-]+)\}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class HmacAuth(SignedAuth):
    """`auth: {scheme: hmac, secret: …, header: X-Signature}` and how the signature is written.

    `template` says what is signed: `{body}`, `{timestamp}`, `{id}` and `{header:Name}` stand for themselves, all else
    is literal. `{timestamp}` is `timestamp_header`, which is checked against `tolerance_s`; `{id}` is `id_header`.
    """

    scheme: Literal["hmac"]
    header: str = "X-Signature"
    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    template: str = "{body}"
    timestamp_header: str | None = None
    id_header: str | None = None
    tolerance_s: int = Field(default=TOLERANCE_S, ge=0)

    @field_validator("header", "timestamp_header", "id_header")
    @classmethod
    def _is_header_name(cls, name: str | None) -> str | None:
        if name is not None and not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header's name")
        return name

    @model_validator(mode="after")
    def _template_signs_the_body(self) -> HmacAuth:
        places = _PLACE.findall(self.template)
        if places.count("body") != 1:
            raise ValueError("template must hold {body} once, or the body is not signed")
        if re.search(r"[{}]", _PLACE.sub("", self.template)):
            raise ValueError("template knows {body}, {timestamp}, {id} and {header:Name} only")
        for place, setting in (("timestamp", self.timestamp_header), ("id", self.id_header)):
            if place in places and setting is None:
                raise ValueError(f"template holds {{{place}}}: say which header it is by {place}_header")
        return self


@dataclass(frozen=True, slots=True)
class Hmac:
    """`parts` alternates literal bytes and header names (None: the body), ready to be joined."""

    signers: tuple[Signer, ...]
    parts: tuple[bytes | str | None, ...]
    header: str
    prefix: str
    encoding: Literal["hex", "base64"]
    timestamp_header: str | None
    id_header: str | None
    tolerance_s: int
    headers: frozenset[str]

    strict = True

    def verify(self, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> str | None:
        given = self._decoded(header(headers, self.header))
        if self.timestamp_header is not None:
            check_timestamp(header(headers, self.timestamp_header), now, tolerance_s=self.tolerance_s)
        signed = b"".join(self._filled(part, headers, raw_body) for part in self.parts)
        if not any_equal([sign(signed) for sign in self.signers], (given,)):
            raise SignatureRefused("the signature is wrong")
        if self.id_header is None:
            return None
        return check_id(header(headers, self.id_header), source=f"the header {self.id_header}")

    def _decoded(self, text: str) -> bytes:
        if not text.startswith(self.prefix):
            raise SignatureRefused(f"the signature does not begin with {self.prefix!r}")
        text = text[len(self.prefix) :]
        try:
            return bytes.fromhex(text) if self.encoding == "hex" else base64.b64decode(text, validate=True)
        except ValueError:
            raise SignatureRefused(f"the signature is not {self.encoding}") from None

    def _filled(self, part: bytes | str | None, headers: Mapping[str, str], raw_body: bytes) -> bytes:
        if part is None:
            return raw_body
        return part if isinstance(part, bytes) else header(headers, part).encode("latin-1", "replace")


def open_hmac(settings: HmacAuth) -> Hmac:
    """The scheme, keyed by the secrets as they are written."""
    timestamp, identity = (name and name.lower() for name in (settings.timestamp_header, settings.id_header))
    places: dict[str, str | None] = {"body": None, "timestamp": timestamp, "id": identity}
    parts: list[bytes | str | None] = []
    for i, piece in enumerate(_PLACE.split(settings.template)):
        if i % 2 == 0:
            parts += [piece.encode()] if piece else []
        else:
            parts.append(places[piece] if piece in places else piece.removeprefix("header:").lower())
    read = {settings.header.lower(), timestamp, identity, *(part for part in parts if isinstance(part, str))}
    return Hmac(
        signers=tuple(signer(secret.encode(), settings.algorithm) for secret in settings.secrets),
        parts=tuple(parts),
        header=settings.header.lower(),
        prefix=settings.prefix,
        encoding=settings.encoding,
        timestamp_header=timestamp,
        id_header=identity,
        tolerance_s=settings.tolerance_s,
        headers=frozenset(name for name in read if name),
    )
