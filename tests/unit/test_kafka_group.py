"""A member of a group goes on trying, whatever went wrong, and says what a person has to mend."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.kafka.group import KafkaMember
from connectors.kafka.loop import KafkaLoop
from connectors.kafka.settings import KafkaSettings
from streams.errors import StopError, UsageError

WAIT_S = 30.0


@pytest.fixture
def loop() -> Iterator[KafkaLoop]:
    made = KafkaLoop()
    yield made
    made.close(timeout_s=5.0)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kafka.group.RETRY_S", 0.01)


def join(
    loop: KafkaLoop, url: str
) -> tuple[KafkaMember, queue.SimpleQueue[frozenset[int] | None], queue.SimpleQueue[StopError]]:
    changes: queue.SimpleQueue[frozenset[int] | None] = queue.SimpleQueue()
    refusals: queue.SimpleQueue[StopError] = queue.SimpleQueue()
    member = KafkaMember(
        loop,
        KafkaSettings.of(url),
        group="g",
        topic="t",
        session_s=6.0,
        on_change=changes.put,
        on_refused=refusals.put,
    )
    return member, changes, refusals


def test_a_certificate_that_cannot_be_read_is_said_once_and_tried_on(loop: KafkaLoop, tmp_path: Path) -> None:
    url = f"kafka://localhost:9?security_protocol=SSL&ssl_ca_file={tmp_path / 'renewed.pem'}"
    member, changes, refusals = join(loop, url)
    assert isinstance(refusals.get(timeout=WAIT_S), UsageError)
    for _ in range(3):  # each time that it has tried
        assert changes.get(timeout=WAIT_S) is None
    assert refusals.empty()
    member.close()


def test_an_error_that_nobody_expected_does_not_end_the_membership(
    loop: KafkaLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def belong(member: KafkaMember) -> None:
        member._consumer = _BadConsumer()
        raise ValueError("the client's inside is not as it was")

    monkeypatch.setattr(KafkaMember, "_belong", belong)
    member, changes, refusals = join(loop, "kafka://localhost:9")
    for _ in range(3):
        assert changes.get(timeout=WAIT_S) is None
    assert refusals.empty()
    member.close()


class _BadConsumer:
    async def stop(self) -> None:
        raise RuntimeError("it was never started")
