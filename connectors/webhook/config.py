"""A webhook as graph.yml describes it, checked; and the running webhook that is made of it.

What later work adds (rate buckets, source addresses, envelopes, responses) is refused by name until it exists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from connectors.signatures.registry import open_scheme
from connectors.signatures.scheme import Scheme
from connectors.webhook.dedup import Dedup
from connectors.webhook.limits import BODY_BYTES, Limits
from connectors.webhook.parse import DEPTH_LIMIT, DEPTH_MAX
from streams.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Keys of the reference that this version does not act on.
_LATER = frozenset({"addresses", "partial", "rate_per_s", "respond", "respond_timeout_s", "shape", "unreadable"})


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Settings):
    """`limits: {body_bytes: 10485760, depth: 64}`."""

    body_bytes: int = Field(default=BODY_BYTES, ge=1, le=1024**3)
    depth: int = Field(default=DEPTH_MAX, ge=1, le=DEPTH_LIMIT)


class DedupSettings(_Settings):
    """`dedup: {header: webhook-id}` or `dedup: {field: id}`."""

    header: str | None = Field(default=None, min_length=1)
    field: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> DedupSettings:
        if (self.header is None) == (self.field is None):
            raise ValueError("say either header or field")
        return self


class WebhookSettings(_Settings):
    """One `webhook:` entry. `auth` None: nothing was said, which `dev` allows with a warning and `up` refuses."""

    name: str = Field(validation_alias=AliasChoices("name", "webhook"))
    auth: dict[str, Any] | None = None
    dedup: DedupSettings | None = None
    dedup_window_days: int = Field(default=7, ge=1, le=3650)
    limits: LimitSettings = LimitSettings()
    key: str | None = Field(default=None, min_length=1)
    partitions: int = Field(default=1, ge=1, le=1024)
    status: int = 200

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name: a lower-case letter, then up to 62 of a-z, 0-9 and _")
        return name

    @field_validator("auth", mode="before")
    @classmethod
    def _spelled_out(cls, auth: object) -> object:
        return {"scheme": auth} if isinstance(auth, str) else auth

    @field_validator("status")
    @classmethod
    def _is_success(cls, status: int) -> int:
        if status not in (200, 201, 202, 204):
            raise ValueError("the status of success is 200, 201, 202 or 204")
        return status

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets as they are written, for whoever must tell a literal one from a `${{ name }}`."""
        secret = (self.auth or {}).get("secret", ())
        return tuple(secret) if isinstance(secret, list | tuple) else (secret,)

    @property
    def timestamps_unchecked(self) -> bool:
        """Whether `tolerance_s: 0` lets a request of any age pass, which deserves a warning at start."""
        return (self.auth or {}).get("tolerance_s") == 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that takes requests, for a topic of the log. `validate` raises DataError for a record that its table's
    schema refuses."""

    name: str
    topic: str
    scheme: Scheme
    dedup: Dedup = field(default_factory=Dedup)
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    status: int = 200
    validate: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def single_headers(self) -> frozenset[str]:
        """Headers that a request may have once only, because something is decided by them."""
        named = {self.dedup.header} if self.dedup.header else set()
        return self.scheme.headers | named | {"content-type", "content-encoding", "content-length"}


def read_settings(entry: Mapping[str, object]) -> WebhookSettings:
    """The settings of an entry, whose keys are those of WebhookSettings (`webhook` is its name).

    Raises UsageError that names each key at fault, and never a secret.
    """
    try:
        return WebhookSettings.model_validate(dict(entry))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise UsageError("; ".join(_told(fault) for fault in faults)) from None


def open_webhook(
    settings: WebhookSettings,
    *,
    topic: str | None = None,
    reveal: Callable[[str], str],
    validate: Callable[[Mapping[str, Any]], None] | None = None,
) -> Webhook:
    """The running webhook, whose records go to the topic of its name, or to `topic`. `reveal` turns a secret as it is
    written (`${{ name }}`) into the secret itself.

    Raises UsageError for an unknown scheme or a wrong setting of it, and what `reveal` raises.
    """
    auth = dict(settings.auth or {"scheme": "none"})
    if isinstance(auth.get("secret"), str):
        auth["secret"] = reveal(auth["secret"])
    elif isinstance(auth.get("secret"), list):
        auth["secret"] = [reveal(str(secret)) for secret in auth["secret"]]
    places = settings.dedup or DedupSettings.model_construct()
    return Webhook(
        name=settings.name,
        topic=topic or settings.name,
        scheme=open_scheme(auth),
        dedup=Dedup(header=places.header and places.header.lower(), field=places.field),
        limits=Limits(body_bytes=settings.limits.body_bytes, depth=settings.limits.depth),
        key=settings.key,
        status=settings.status,
        validate=validate,
    )


def _told(fault: Mapping[str, Any]) -> str:
    """One fault in words, with the nearest known key for one that is unknown."""
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{path}: {fault['msg']}"
    name = str(fault["loc"][-1])
    if name in _LATER:
        return f"{path}: not available yet"
    known = (*WebhookSettings.model_fields, *LimitSettings.model_fields, *DedupSettings.model_fields)
    near = difflib.get_close_matches(name, known, n=1)
    return f"{path}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
