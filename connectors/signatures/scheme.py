"""What a signature scheme is, why it refuses, and the few checks that all schemes share.

A scheme is a value made once from configuration; `verify` is pure and reads neither clock nor environment.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Signs a message with a secret that it holds.
Signer = Callable[[bytes], bytes]

TOLERANCE_S = 300
ID_CHARS_MAX = 255


class SignatureRefused(Exception):
    """The sender could not be told to be who it says. `reason` is for the log; the sender never sees it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IdMalformed(Exception):
    """The request's id cannot be used. `problem` tells the sender nothing about secrets and may be shown (400)."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Scheme(Protocol):
    """One way to tell who sent a request."""

    @property
    def headers(self) -> frozenset[str]:
        """Lower-case names of the headers that it reads. A request that has one of them twice is malformed."""
        ...

    @property
    def strict(self) -> bool:
        """True: an id that returns with another body is a mistake of the sender; False: providers re-serialise."""
        ...

    def verify(self, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> str | None:
        """The request's dedup id, or None where the scheme has none. Header names are lower case, `now` is aware.

        `raw_body` is as it was sent, before inflating or parsing. Raises SignatureRefused, IdMalformed. Comparisons
        take constant time.
        """
        ...


class SignedAuth(BaseModel):
    """What every scheme with a shared secret is configured by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: str | list[str] = Field(min_length=1)

    @field_validator("secret")
    @classmethod
    def _no_empty_secret(cls, secret: str | list[str]) -> str | list[str]:
        if not all([secret] if isinstance(secret, str) else secret):
            raise ValueError("a secret is empty: anyone could sign with it")
        return secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets that are valid now; more than one while they rotate."""
        return (self.secret,) if isinstance(self.secret, str) else tuple(self.secret)


def signer(key: bytes, algorithm: str) -> Signer:
    """HMAC with this key; any thread may call it.

    The key is set up once and copied, which halves the cost; and unlike `hmac.digest` it does not hand the interpreter
    to another thread, and wait to get it back, for the few microseconds that a small body takes.
    """
    keyed = hmac.new(key, digestmod=algorithm)

    def sign(message: bytes) -> bytes:
        mac = keyed.copy()
        mac.update(message)
        return mac.digest()

    return sign


def header(headers: Mapping[str, str], name: str) -> str:
    """The header's value. Raises SignatureRefused where it is absent or empty."""
    value = headers.get(name)
    if not value:
        raise SignatureRefused(f"no {name} header")
    return value


def any_equal(expected: Iterable[bytes], given: Iterable[bytes]) -> bool:
    """Whether some given signature is an expected one, in time that depends on their numbers and lengths only."""
    candidates = tuple(given)
    found = False
    for signature in expected:
        for candidate in candidates:
            found |= hmac.compare_digest(signature, candidate)
    return found


def check_timestamp(text: str, now: datetime, *, tolerance_s: int) -> None:
    """Refuse a Unix time in seconds that is not strictly decimal, or too far from `now`, behind or ahead.

    `tolerance_s` 0 switches the comparison off, never the check of the form.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise SignatureRefused("the timestamp is not a decimal integer")
    if tolerance_s == 0:
        return
    age_s = now.timestamp() - int(text)
    if age_s > tolerance_s:
        raise SignatureRefused(f"the timestamp is {age_s:.0f} s old; tolerance_s is {tolerance_s}")
    if age_s < -tolerance_s:
        raise SignatureRefused(f"the timestamp is {-age_s:.0f} s ahead; tolerance_s is {tolerance_s}")


def check_id(text: str, *, source: str) -> str:
    """The id, if it can be one: 1 to 255 characters, none of them a control character. Raises IdMalformed."""
    if not text:
        raise IdMalformed(f"{source} is empty")
    if len(text) > ID_CHARS_MAX:
        raise IdMalformed(f"{source} has more than {ID_CHARS_MAX} characters")
    if any(character < " " or character == "\x7f" for character in text):
        raise IdMalformed(f"{source} holds a control character")
    return text
