"""A feed of a topic: what it asks the log for, and when it says that something is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.agents.feed import Feed
from streams.errors import PositionInvalid
from streams.log import TopicInfo
from streams.model.position import Build, Position
from streams.model.record import Partition
from streams.store import Store

TOPIC = Partition("topic", 0)


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Topics that the log was asked for afresh."""
    names: list[str] = []
    topic = store.log.topic

    def asking(name: str) -> TopicInfo | None:
        names.append(name)
        return topic(name)

    monkeypatch.setattr(store.log, "topic", asking)
    return names


def known_as(store: Store, monkeypatch: pytest.MonkeyPatch, info: TopicInfo) -> None:
    """Let what the log knows of a second ago be this."""
    monkeypatch.setattr(store.log, "topics", lambda names=None: [info])


def test_a_reader_that_finds_nothing_asks_for_its_topic_once(store: Store, asked: list[str]) -> None:
    feed = Feed(store, Build("reader"))
    start = feed.starts([TOPIC])[TOPIC]
    feed.read(start, records_max=10)
    asked.clear()
    for _ in range(3):
        assert feed.read(start, records_max=10).after == start
    assert asked == []


def test_a_fault_of_a_second_ago_is_told_only_if_it_is_one_still(
    store: Store, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(store, Build("reader"))
    start = feed.starts([TOPIC])[TOPIC]
    feed.read(start, records_max=10)
    asked.clear()
    known = store.log.topics(["topic"])[0]
    known_as(store, monkeypatch, replace(known, topic_id="another"))
    assert feed.read(start, records_max=10).after == start
    assert asked == ["topic"]


def test_a_topic_that_was_made_anew_is_told_to_who_finds_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(store, Build("reader"))
    start: Position = feed.starts([TOPIC])[TOPIC]
    feed.read(start, records_max=10)
    anew = replace(store.log.topics(["topic"])[0], topic_id="another")
    known_as(store, monkeypatch, anew)
    monkeypatch.setattr(store.log, "topic", lambda name: anew)
    with pytest.raises(PositionInvalid, match="was made anew"):
        feed.read(start, records_max=10)
