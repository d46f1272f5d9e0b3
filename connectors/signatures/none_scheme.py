"""No signature: whoever reaches the address may send. Said aloud in graph.yml as `auth: none`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class NoAuth(BaseModel):
    """`auth: none`, or `auth: {scheme: none}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: Literal["none"] = "none"


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Lets every request pass, without an id."""

    strict = True
    headers: frozenset[str] = frozenset()

    def verify(self, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> None:  # noqa: ARG002
        return None


def open_none(settings: NoAuth) -> Unsigned:  # noqa: ARG001
    """The scheme."""
    return Unsigned()
