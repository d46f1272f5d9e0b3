"""Repeats, where the log keeps no ids: a record whose id was seen before is dropped by whoever lands it.

The ids stand in the records' headers. Those that were landed are kept in the store, by build, and are written in the
checkpoint that lands the record: so an id counts as seen exactly when its record is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streams.agents.feed import Batch, Dropped
from streams.log import ORDINAL_HEADER, REQUEST_ID_HEADER, LogRecord
from streams.model.position import Build
from streams.model.seen_id import SeenId, SeenKey
from streams.store import Store

HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Dedup:
    """Of one build."""

    store: Store
    build: Build

    def without_repeats(self, batch: Batch) -> Batch:
        """The batch without records whose ids were seen at another place, each in `dropped`: a repeat, or, with another
        body, a problem."""
        ids = [_id_of(batch, record) for record in batch.log_records]
        known = self._known([each.key for each in ids if each is not None])
        kept, dropped, seen = [], [], []
        for record, own in zip(batch.log_records, ids, strict=True):
            first = known.get(own.key) if own is not None else None
            if own is None:
                kept.append(record)
            elif first is None:
                known[own.key] = own
                kept.append(record)
                seen.append(own)
            elif first.body_hash == own.body_hash:
                dropped.append(Dropped(record))
            else:
                place = f"offset {first.offset} of partition {first.partition}"
                problem = f"the id {own.key.request_id!r} came with another body before, at {place}"
                dropped.append(Dropped(record, problem))
        if not seen and not dropped:
            return batch
        return replace(batch, log_records=kept, dropped=tuple(dropped), ids=tuple(seen))

    def _known(self, keys: Sequence[SeenKey]) -> dict[SeenKey, SeenId]:
        if not keys:
            return {}
        with self.store.read() as tx:
            return tx.seen.known(self.build, keys)


def _id_of(batch: Batch, record: LogRecord) -> SeenId | None:
    request_id, ordinal = None, 0
    for name, value in record.headers:
        if name == REQUEST_ID_HEADER:
            request_id = value.decode()
        elif name == ORDINAL_HEADER:
            ordinal = int(value)
    if request_id is None:
        return None
    partition = batch.partition
    body_hash = hashlib.blake2b(record.value, digest_size=HASH_BYTES).digest()
    key = SeenKey(partition.topic, request_id, ordinal)
    return SeenId(key, partition.index, record.offset, body_hash, record.timestamp)
