"""A digest of a version's rows that is the same on every store: sha256 over all of them in (_partition, _offset) order.

Each value is its type, the length of its text or bytes, and these, so that no two rows look alike. Numbers that are
equal as decimals are the same whatever their trailing zeros; a time is its microseconds since 1970 UTC.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from millstream.promote.tables import kept_versions, pages
from streams.model.table_version import Sequencer, VersionInfo
from streams.store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class VersionDigest:
    """`state` is the version's."""

    table: str
    version: int
    state: str
    rows: int
    digest: str


def digests(store: Store, *, advance: Callable[[int], None] = lambda _: None) -> list[VersionDigest]:
    """Of every version whose rows are there."""
    return [_digest(store, version, sequencers, advance) for _, version, sequencers in kept_versions(store)]


def _digest(
    store: Store, version: VersionInfo, sequencers: list[Sequencer], advance: Callable[[int], None]
) -> VersionDigest:
    digest, count = hashlib.sha256(), 0
    digest.update(_framed("columns", "\n".join(version.schema.names).encode()))
    for sequencer in sequencers:
        partition = sequencer.key.partition
        for rows in pages(store, version, partition, first=0, below=sequencer.end_offset):
            for offset, at, record_id, values in zip(rows.offsets, rows.ats, rows.record_ids, rows.values, strict=True):
                digest.update(b"".join(map(canonical, (partition, offset, at, record_id, *values))))
            count += len(rows.offsets)
            advance(len(rows.offsets))
    return VersionDigest(version.table, version.version, version.state.value, count, digest.hexdigest())


def canonical(value: object) -> bytes:
    """The bytes of one canonical value (`streams.rows.values`)."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool | int):
        return _framed(kind, str(value).encode())
    if isinstance(value, str):
        return _framed(kind, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray | memoryview):
        return _framed("bytes", bytes(value))
    if isinstance(value, float):
        return _framed(kind, b"nan" if math.isnan(value) else struct.pack(">d", value))
    if isinstance(value, Decimal):
        return _framed(kind, _decimal(value).encode())
    if isinstance(value, datetime):
        return _framed(kind, str((value - _EPOCH) // _MICROSECOND).encode())
    if isinstance(value, timedelta):
        return _framed(kind, str(value // _MICROSECOND).encode())
    if isinstance(value, date | time):
        return _framed(kind, value.isoformat().encode())
    raise AssertionError(f"a store gave a {kind}, which no column holds")


def _framed(kind: str, body: bytes) -> bytes:
    return b"%s:%d:%s;" % (kind.encode(), len(body), body)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        return str(value)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "0"
    bare = text.rstrip("0")
    return f"{'-' if sign else ''}{bare}e{exponent + len(text) - len(bare)}"
