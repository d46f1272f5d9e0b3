"""The log: dense offsets, all or nothing for a request, and a repeat answered as the first time."""

from __future__ import annotations

import threading

import pytest

from streams.errors import UsageError
from streams.log import AppendAnswer, AppendRequest, Entry, OffsetRange
from streams.model.record import Partition
from streams.store import Store
from tests.contract.conftest import Opener
from tests.contract.making import NOON, later

PLACE = Partition("topic", 0)


def request(
    *values: str,
    topic: str = "topic",
    request_id: str | None = None,
    entry_ids: tuple[str, ...] | None = None,
    keys: tuple[str | None, ...] | None = None,
    partition: int | None = None,
    strict: bool = False,
    seconds: float = 0,
) -> AppendRequest:
    given = keys or (None,) * len(values)
    entries = tuple(Entry(f'{{"v":"{value}"}}'.encode(), key) for value, key in zip(values, given, strict=True))
    return AppendRequest(topic, entries, later(seconds), request_id, entry_ids, partition, strict=strict)


def values(store: Store, partition: Partition = PLACE, first: int = 0, records_max: int = 1000) -> list[str]:
    return [record.value[6:-2].decode() for record in store.log.read(partition, first, records_max=records_max).records]


def only(answers: list[AppendAnswer]) -> AppendAnswer:
    (answer,) = answers
    return answer


def test_a_topic_is_made_once_and_grows(store: Store) -> None:
    assert store.log.topic("topic") is None
    made = store.log.ensure_topic("topic")
    assert (made.name, made.partitions, made.first_offsets, made.end_offsets) == ("topic", 1, (0,), (0,))
    assert made.topic_id
    grown = store.log.ensure_topic("topic", partitions=3)
    assert (grown.topic_id, grown.partitions) == (made.topic_id, 3)
    assert store.log.ensure_topic("topic", partitions=2) == grown
    store.log.ensure_topic("another")
    assert [topic.name for topic in store.log.topics()] == ["another", "topic"]
    assert store.log.topic("another") != store.log.topic("topic")


def test_records_come_back_as_they_were_appended(store: Store) -> None:
    entries = (Entry('{"ü":"🙂"}'.encode(), "ключ"), Entry(b"{}", None))
    answer = only(store.log.append([AppendRequest("topic", entries, later(0.000001), partition=0)]))
    assert answer == AppendAnswer(2, 0, (OffsetRange(0, 0, 1),))
    first, second = store.log.read(PLACE, 0, records_max=10).records
    assert (first.offset, first.timestamp, first.key, first.value) == (0, later(0.000001), "ключ", entries[0].value)
    assert (second.offset, second.key, second.value) == (1, None, b"{}")


def test_a_missing_topic_is_made_with_one_partition(store: Store) -> None:
    store.log.append([request("a", topic="fresh")])
    info = store.log.topic("fresh")
    assert info is not None
    assert info.end_offsets == (1,)


def test_requests_of_one_call_are_answered_in_order(store: Store) -> None:
    answers = store.log.append([request("a", "b"), request("c", topic="other"), request("d")])
    assert [answer.offsets for answer in answers] == [
        (OffsetRange(0, 0, 1),),
        (OffsetRange(0, 0, 0),),
        (OffsetRange(0, 2, 2),),
    ]
    assert values(store) == ["a", "b", "d"]
    assert store.log.append([]) == []


def test_reading_is_bounded(store: Store) -> None:
    store.log.append([request(*"abcde")])
    assert values(store, first=1, records_max=2) == ["b", "c"]
    assert values(store, first=5) == []
    assert values(store, first=99) == []
    assert values(store, Partition("topic", 7)) == []
    assert values(store, Partition("none", 0)) == []


def test_an_empty_request_appends_nothing(store: Store) -> None:
    assert only(store.log.append([request()])) == AppendAnswer(0, 0, ())
    assert values(store) == []


def test_a_repeat_is_answered_with_its_first_offsets(store: Store, open_again: Opener) -> None:
    store.log.append([request("x")])
    first = only(store.log.append([request("a", "b", request_id="r1")]))
    assert first == AppendAnswer(2, 0, (OffsetRange(0, 1, 2),))
    again = only(open_again().log.append([request("a", "b", request_id="r1", seconds=5)]))
    assert again == AppendAnswer(0, 2, (OffsetRange(0, 1, 2),))
    assert values(store) == ["x", "a", "b"]


def test_a_repeat_within_one_call_is_a_repeat(store: Store) -> None:
    answers = store.log.append([request("a", request_id="r1"), request("a", request_id="r1")])
    assert answers == [AppendAnswer(1, 0, (OffsetRange(0, 0, 0),)), AppendAnswer(0, 1, (OffsetRange(0, 0, 0),))]
    assert values(store) == ["a"]


def test_a_longer_repeat_appends_what_is_new(store: Store) -> None:
    store.log.append([request("a", request_id="r1")])
    answer = only(store.log.append([request("a", "b", request_id="r1")]))
    assert (answer.accepted, answer.duplicates) == (1, 1)
    assert values(store) == ["a", "b"]


def test_entries_with_ids_of_their_own_are_known_by_these(store: Store) -> None:
    store.log.append([request("a", "b", request_id="r1", entry_ids=("e1", "e2"))])
    answer = only(store.log.append([request("b", "c", request_id="r2", entry_ids=("e2", "e3"))]))
    assert (answer.accepted, answer.duplicates, answer.changed) == (1, 1, ())
    assert values(store) == ["a", "b", "c"]


def test_an_id_that_comes_twice_in_one_request_is_appended_once(store: Store) -> None:
    answer = only(store.log.append([request("a", "a", "b", entry_ids=("e1", "e1", "e2"))]))
    assert (answer.accepted, answer.duplicates) == (2, 1)
    assert values(store) == ["a", "b"]


def test_ids_of_different_topics_are_apart(store: Store) -> None:
    store.log.append([request("a", request_id="r1"), request("a", topic="other", request_id="r1")])
    assert (values(store), values(store, Partition("other", 0))) == (["a"], ["a"])


def test_the_same_id_with_another_body_is_told_and_not_appended(store: Store) -> None:
    store.log.append([request("a", "b", request_id="r1")])
    answer = only(store.log.append([request("a", "B", request_id="r1")]))
    assert answer == AppendAnswer(0, 2, (OffsetRange(0, 0, 1),), changed=(1,))
    assert values(store) == ["a", "b"]


def test_a_strict_request_with_another_body_is_refused_whole(store: Store) -> None:
    store.log.append([request("a", request_id="r1")])
    answers = store.log.append([request("A", "new", request_id="r1", strict=True), request("fine", request_id="r2")])
    assert (answers[0].conflict, answers[0].accepted, answers[0].changed) == (True, 0, (0,))
    assert answers[1].accepted == 1
    assert values(store) == ["a", "fine"]
    assert only(store.log.append([request("a", request_id="r1", strict=True)])).duplicates == 1


def test_a_key_always_goes_to_the_same_partition(store: Store) -> None:
    store.log.ensure_topic("topic", partitions=4)
    keys = [f"key-{n % 10}" for n in range(100)]
    store.log.append([request(*map(str, range(100)), keys=tuple(keys))])
    homes: dict[str, set[int]] = {}
    for index in range(4):
        for record in store.log.read(Partition("topic", index), 0, records_max=1000).records:
            assert record.key is not None
            homes.setdefault(record.key, set()).add(index)
    assert all(len(home) == 1 for home in homes.values())
    assert len(set.union(*homes.values())) > 1


def test_a_request_without_keys_stays_together_and_takes_its_turn(store: Store) -> None:
    store.log.ensure_topic("topic", partitions=3)
    answers = store.log.append([request("a", "b") for _ in range(6)])
    homes = [answer.offsets[0].partition for answer in answers]
    assert all(len(answer.offsets) == 1 for answer in answers)
    assert sorted(homes) == [0, 0, 1, 1, 2, 2]


def test_a_request_may_name_its_partition(store: Store) -> None:
    store.log.ensure_topic("topic", partitions=3)
    answer = only(store.log.append([request("a", "b", keys=("x", None), partition=2)]))
    assert answer.offsets == (OffsetRange(2, 0, 1),)


def test_a_partition_that_does_not_exist_is_an_error_and_nothing_is_appended(store: Store) -> None:
    with pytest.raises(UsageError):
        store.log.append([request("a"), request("b", partition=5)])
    assert values(store) == []


def test_the_first_offset_of_a_time(store: Store) -> None:
    for seconds in (0, 10, 20):
        store.log.append([request("a", seconds=seconds)])
    assert [store.log.offset_at(PLACE, later(at)) for at in (-1, 0, 0.5, 20, 21)] == [0, 0, 1, 2, 3]


def test_trimmed_records_are_gone_and_offsets_go_on(store: Store) -> None:
    store.log.append([request(*"abcd")])
    assert store.log.trim(PLACE, 2) == 2
    assert store.log.trim(PLACE, 2) == 0
    info = store.log.topic("topic")
    assert info is not None
    assert (info.first_offsets, info.end_offsets) == ((2,), (4,))
    assert [record.offset for record in store.log.read(PLACE, 0, records_max=10).records] == [2, 3]
    store.log.trim(PLACE, 4)
    assert only(store.log.append([request("e")])).offsets == (OffsetRange(0, 4, 4),)


def test_forgotten_ids_are_new_again(store: Store) -> None:
    store.log.append([request("a", request_id="r1")])
    store.log.append([request("b", request_id="r2", seconds=10)])
    assert store.log.forget_ids("topic", later(5)) == 1
    assert store.log.forget_ids("topic", later(5)) == 0
    answers = store.log.append([request("a", request_id="r1"), request("b", request_id="r2")])
    assert [answer.accepted for answer in answers] == [1, 0]


def test_the_log_outlives_the_process(store: Store, open_again: Opener) -> None:
    store.log.append([request("a", request_id="r1")])
    before = store.log.topic("topic")
    store.close()
    again = open_again()
    assert again.log.topic("topic") == before
    assert only(again.log.append([request("a", request_id="r1")])).duplicates == 1
    assert only(again.log.append([request("b")])).offsets == (OffsetRange(0, 1, 1),)


def test_many_senders_at_once_get_dense_offsets_and_their_own(store: Store, open_again: Opener) -> None:
    stores = [store, open_again()]
    given: list[tuple[str, int]] = []

    def send(sender: int) -> None:
        for number in range(10):
            value = f"{sender}-{number}"
            answer = only(stores[sender % 2].log.append([request(value, request_id=value)]))
            given.append((value, answer.offsets[0].first))

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    assert sorted(offset for _, offset in given) == list(range(60))
    found = values(store)
    assert all(found[offset] == value for value, offset in given)
    for sender_ in range(6):
        assert [value for value in found if value.startswith(f"{sender_}-")] == [f"{sender_}-{n}" for n in range(10)]


def test_times_of_records_are_instants(store: Store) -> None:
    assert later(0) == NOON
    store.log.append([request("a", seconds=0.123456)])
    assert store.log.read(PLACE, 0, records_max=1).records[0].timestamp == later(0.123456)
