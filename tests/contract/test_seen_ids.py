"""Where the log keeps no ids, whoever lands the records drops repeats: each id once, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.agents.partitions import partitions_of
from streams.history.verify import verify
from streams.log import ORDINAL_HEADER, REQUEST_ID_HEADER, AppendRequest, Entry, Log, LogRecord, LogSlice
from streams.model.dead_letter import DeadLetterState
from streams.model.position import Build
from streams.model.record import Kind, Partition
from streams.model.seen_id import SeenId, SeenKey
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.wait import Task

NOON = ManualAmbient().now()
SINK = Build("sink")


def seen(request_id: str, ordinal: int = 0, *, offset: int = 0, minutes: int = 0) -> SeenId:
    return SeenId(SeenKey("t", request_id, ordinal), 0, offset, b"hash", NOON + timedelta(minutes=minutes))


def test_ids_are_known_by_build_and_place_in_the_request(store: Store) -> None:
    first, second, third = seen("a"), seen("a", 1, offset=1), seen("b", offset=2)
    with store.write() as tx:
        tx.seen.insert(SINK, [third, first, second])
    with store.read() as tx:
        assert tx.seen.known(SINK, [first.key, third.key, SeenKey("t", "c", 0)]) == {first.key: first, third.key: third}
        assert tx.seen.known(replace(SINK, number=2), [first.key]) == {}
        assert tx.seen.all(SINK) == [first, second, third]


def test_many_ids_are_asked_for_at_once(store: Store) -> None:
    ids = [seen(f"id-{number}", offset=number) for number in range(1000)]
    with store.write() as tx:
        tx.seen.insert(SINK, ids)
    with store.read() as tx:
        assert len(tx.seen.known(SINK, [each.key for each in ids] + [SeenKey("t", "new", 0)])) == 1000


def test_old_ids_are_forgotten_by_the_records_own_time(store: Store) -> None:
    with store.write() as tx:
        tx.seen.insert(SINK, [seen("old"), seen("new", minutes=10)])
    with store.write() as tx:
        assert tx.seen.forget("sink", NOON + timedelta(minutes=5)) == 1
        assert tx.seen.forget("another", NOON + timedelta(days=5)) == 0
    with store.read() as tx:
        assert [each.key.request_id for each in tx.seen.all(SINK)] == ["new"]


@dataclass
class WithoutIds:
    """A store whose log keeps no ids but hands them on in headers, as Kafka does."""

    inner: Store
    ids: dict[int, tuple[str, int]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    @property
    def log(self) -> Log:
        return HeaderLog(self.inner.log, self.ids)  # type: ignore[return-value]


@dataclass
class HeaderLog:
    inner: Log
    ids: dict[int, tuple[str, int]]
    keeps_ids: bool = False

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def read(self, partition: Partition, first_offset: int, **options: object) -> LogSlice:
        found = self.inner.read(partition, first_offset, **options)  # type: ignore[arg-type]
        return LogSlice([self._with_id(record) for record in found.records], found.first_offset, found.next_offset)

    def _with_id(self, record: LogRecord) -> LogRecord:
        request_id, ordinal = self.ids[record.offset]
        headers = ((REQUEST_ID_HEADER, request_id.encode()), (ORDINAL_HEADER, str(ordinal).encode()))
        return record._replace(headers=headers)


def to_its_end(task: Task[None]) -> None:
    for _ in task:
        pass


class Sink:
    """A sink on a topic whose records were sent with these ids."""

    def __init__(self, store: Store, *, records_max: int = 10_000) -> None:
        self.inner = store
        self.store = WithoutIds(store)
        self.records_max = records_max

    def send(self, *bodies: str, request_id: str) -> None:
        info = self.inner.log.ensure_topic("t")
        for ordinal, _ in enumerate(bodies):
            self.store.ids[info.end_offsets[0] + ordinal] = (request_id, ordinal)
        entries = tuple(Entry(body.encode()) for body in bodies)
        self.inner.log.append([AppendRequest("t", entries, NOON)])

    def run(self) -> None:
        spec = AgentSpec("sink", (("t", Kind.SOURCE),), "t", "code", records_max=self.records_max, dedup=True)
        agent = Agent(
            spec,
            RecordBody(lambda record: record),
            self.store,  # type: ignore[arg-type]
            ManualAmbient(),
            partitions=lambda: partitions_of(self.inner, spec.inputs),
            until_idle=True,
        )
        to_its_end(agent.run())

    def landed(self) -> list[object]:
        with self.inner.read() as tx:
            return [row[0] for row in tx.rows.query("select n from t order by _offset", {})[1]]


@pytest.mark.parametrize("records_max", [1, 2, 10_000])
def test_a_repeat_is_landed_once_also_after_a_restart(store: Store, records_max: int) -> None:
    sink = Sink(store, records_max=records_max)
    sink.send('{"n":1}', '{"n":2}', request_id="a")
    sink.send('{"n":1}', '{"n":2}', request_id="a")
    sink.send('{"n":3}', request_id="b")
    sink.run()
    sink.send('{"n":3}', request_id="b")
    sink.send('{"n":4}', request_id="c")
    sink.run()
    assert sink.landed() == [1, 2, 3, 4]
    verified = verify(store)
    assert verified.ok, verified.faults
    (total,) = (each for each in verified.builds if each.build.agent == "sink")
    (consumed,) = total.inputs.values()
    assert (consumed.records_in, consumed.duplicates, consumed.next_offset) == (4, 3, 7)


def test_the_same_id_with_another_body_is_set_aside(store: Store) -> None:
    sink = Sink(store)
    sink.send('{"n":1}', request_id="a")
    sink.send('{"n":9}', request_id="a")
    sink.send('{"n":2}', request_id="b")
    sink.run()
    assert sink.landed() == [1, 2]
    with store.read() as tx:
        (letter,) = tx.dead_letters.all(agent="sink", state=DeadLetterState.OPEN)
    assert (letter.offset, letter.value, letter.error_type) == (1, b'{"n":9}', "IdReused")
    assert "came with another body before, at offset 0 of partition 0" in letter.message
