"""A user who lacks a right on Kafka: what is said names the user, the right and what it is on, with the way out; and
once the right is there, it goes on."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names them by import alone
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from connectors.kafka.log import KafkaLog, open_log
from streams.errors import MillstreamError, StopError, StoreRefused
from streams.log import AppendRequest, Entry
from streams.model.record import Partition
from tests.kafka_server import temporary_kafka
from tests.live_service import LiveService, eventually, live, write_project

PASSWORDS = {"broker": "b", "ada": "hidden"}
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:broker;User:ANONYMOUS",  # the controller's listener knows no names
}
WAIT_S = 30.0
GRAPH = """
    title: Shop
    functions:
      - webhook: leads
        auth: none
      - webhook: visits
        auth: none
"""


class Guarded:
    """A broker that allows `ada` nothing but what she is granted. Names in it are of one test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin = AdminClient(
            {
                "bootstrap.servers": bootstrap,
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanisms": "PLAIN",
                "sasl.username": "broker",
                "sasl.password": PASSWORDS["broker"],
            }
        )

    def url(self, user: str) -> str:
        return f"kafka://{user}:{PASSWORDS[user]}@{self.bootstrap}"

    def grant(self, kind: str, name: str, *operations: str, prefixed: bool = False) -> None:
        """Let ada do this with a `topic`, a `group` or a `transactional_id`."""
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        allow, resource = AclPermissionType.ALLOW, ResourceType[kind.upper()]
        acls = [
            AclBinding(resource, name, pattern, "User:ada", "*", AclOperation[each.upper()], allow)
            for each in operations
        ]
        for made in self.admin.create_acls(acls).values():
            made.result(WAIT_S)


@pytest.fixture(scope="module")
def guarded(kafka_libraries: None) -> Iterator[Guarded]:
    with temporary_kafka(sasl_users=PASSWORDS, settings=AUTHORIZER) as cluster:
        yield Guarded(cluster.bootstrap)


@pytest.fixture
def topic(guarded: Guarded) -> Iterator[str]:
    """With one record."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    owner = open_log(guarded.url("broker"), store_id="owner", hint=lambda: None)
    owner.ensure_topic(name)
    owner.append([request(name)])
    owner.close()
    yield name


@pytest.fixture
def log(guarded: Guarded) -> Iterator[KafkaLog]:
    opened = open_log(guarded.url("ada"), store_id=f"s{uuid.uuid4().hex[:8]}", hint=lambda: None)
    yield opened
    opened.close()


def request(topic: str, records: int = 1) -> AppendRequest:
    value = b'"' + b"x" * (1000 if records > 1 else 1) + b'"'
    return AppendRequest(topic, (Entry(value),) * records, datetime.now(UTC))


def check(error: StopError, right: str, kind: str, name: str) -> None:
    assert f"refuses user 'ada': the right {right} on {kind} '{name}' is missing" in error.message
    option = f"--{kind.replace(' ', '-')} {name}"
    assert f"--add --allow-principal User:ada --operation {right} {option}" in error.hint
    assert PASSWORDS["ada"] not in f"{error.message} {error.hint}"


def refused(task: Callable[[], Any], right: str, kind: str, name: str) -> None:
    """It says that this right is missing, also where one that was granted just now is not known everywhere yet."""
    deadline = time.monotonic() + WAIT_S
    while True:
        with pytest.raises(StoreRefused) as caught:
            task()
        if f"the right {right} on {kind} " in caught.value.message or time.monotonic() > deadline:
            check(caught.value, right, kind, name)
            return
        time.sleep(0.05)


def granted(task: Callable[[], Any]) -> Any:
    """What it gives, once what was granted is known."""

    def attempt() -> Any:
        try:
            return task()
        except MillstreamError as error:
            last.append(error)
            return None

    last: list[MillstreamError] = []
    return eventually(f"it is allowed (last: {last})", attempt, timeout_s=WAIT_S)


def test_a_reader_says_that_it_may_not_see_the_topic_or_not_read_it(
    guarded: Guarded, log: KafkaLog, topic: str
) -> None:
    def read() -> Any:
        return log.read(Partition(topic, 0), 0, records_max=1, reader="r").records

    refused(lambda: log.topic(topic), "Describe", "topic", topic)
    guarded.grant("topic", topic, "Describe")
    refused(read, "Read", "topic", topic)
    guarded.grant("topic", topic, "Read")
    assert [record.offset for record in granted(read)] == [0]


def test_a_topic_that_may_not_be_made_is_named(guarded: Guarded, log: KafkaLog) -> None:
    name = f"new-{uuid.uuid4().hex[:8]}"
    guarded.grant("topic", name, "Describe")
    refused(lambda: log.ensure_topic(name), "Create", "topic", name)
    guarded.grant("topic", name, "Create")
    assert granted(lambda: log.ensure_topic(name)).partitions == 1
    refused(lambda: log.ensure_topic(name, partitions=2), "Alter", "topic", name)


def test_a_producer_names_the_topic_that_it_may_not_write(guarded: Guarded, log: KafkaLog, topic: str) -> None:
    guarded.grant("topic", topic, "Describe")
    refused(lambda: log.append([request(topic)]), "Write", "topic", topic)  # it may write nowhere
    mine = f"mine-{uuid.uuid4().hex[:8]}"
    guarded.grant("topic", mine, "Write", "Create", "Describe")
    granted(lambda: log.append([request(mine)]))
    refused(lambda: log.append([request(topic)]), "Write", "topic", topic)
    refused(lambda: log.append([request(mine, records=1500)]), "Write", "transactional id", f"{log._store_id}.append.")
    guarded.grant("topic", topic, "Write")
    (answer,) = granted(lambda: log.append([request(topic)]))
    assert answer.offsets[0].first == 1


def test_a_member_names_its_group_and_is_given_its_share_once_it_may(
    guarded: Guarded, log: KafkaLog, topic: str
) -> None:
    changes: queue.SimpleQueue[frozenset[int] | None] = queue.SimpleQueue()
    refusals: queue.SimpleQueue[StopError] = queue.SimpleQueue()
    guarded.grant("topic", topic, "Read")
    member = log.join("node", topic, session_s=6.0, on_change=changes.put, on_refused=refusals.put)
    check(refusals.get(timeout=WAIT_S), "Read", "group", f"{log._store_id}.node")
    guarded.grant("group", f"{log._store_id}.node", "Read")
    while changes.get(timeout=WAIT_S) != frozenset({0}):
        pass
    member.close()
    assert refusals.empty()


def test_a_publisher_names_each_right_that_it_lacks(guarded: Guarded, log: KafkaLog) -> None:
    table = f"x{uuid.uuid4().hex[:8]}"
    topic, owner = f"table.{table}", f"{log._store_id}.publish.{table}"
    published = log.table_topic(table, 0)

    def open_topic() -> Any:
        return published.open(partitions=1)

    guarded.grant("topic", topic, "Describe", "Create")
    refused(open_topic, "Write", "transactional id", f"{owner}.0")
    guarded.grant("transactional_id", f"{owner}.0", "Write", "Describe")
    refused(open_topic, "Read", "group", owner)
    guarded.grant("group", owner, "Read")
    assert granted(open_topic).is_empty
    published.close()


def test_a_service_says_what_it_lacks_and_a_webhook_answers_503_until_it_may_write(
    guarded: Guarded, tmp_path: Path
) -> None:
    prefix = f"p{uuid.uuid4().hex[:8]}."
    environment = {"MILLSTREAM_LOG": f"{guarded.url('ada')}?topic_prefix={prefix}", "MILLSTREAM_LEASE_S": "3"}
    project = write_project(tmp_path / "shop", GRAPH)
    guarded.grant("topic", prefix, "Create", "Describe", prefixed=True)
    guarded.grant("topic", f"{prefix}visits", "Write")
    with live(project, "up", environment=environment) as service:
        answer = service.post("leads", [{"n": 1}])
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "in the service's log" in answer.text
        assert f"the right Write on topic '{prefix}leads' is missing" in service.stderr()
        assert service.post("visits", [{"n": 1}]).status_code == 200  # the service has not ended
        told = eventually("the sink says what it lacks", lambda: said_by(service, "leads"))
        assert "the right Read on group " in told
        guarded.grant("topic", f"{prefix}leads", "Write")
        eventually("the webhook takes it", lambda: service.post("leads", [{"n": 1}]).status_code == 200)
        assert service.signal(15) == 0


def said_by(service: LiveService, node_id: str) -> str:
    try:
        error = service.node(node_id)["error"]
    except httpx.HTTPError:
        return ""
    return str(error["message"]) if error is not None else ""
