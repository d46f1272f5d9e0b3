"""The tests' own schema registry: it answers as Confluent's does."""

from __future__ import annotations

import httpx


def test_a_schema_that_was_registered_is_found_by_its_id(schema_registry: str, kafka_topic: str) -> None:
    schema = '{"type":"record","name":"a","fields":[{"name":"x","type":"long"}]}'
    versions = f"{schema_registry}/subjects/{kafka_topic}-value/versions"
    made = httpx.post(versions, json={"schema": schema})
    assert made.status_code == 200
    found = httpx.get(f"{schema_registry}/schemas/ids/{made.json()['id']}")
    assert found.json()["schema"] == schema
    assert httpx.get(versions).json() == [1]


def test_an_id_that_is_not_there_is_a_404(schema_registry: str) -> None:
    answer = httpx.get(f"{schema_registry}/schemas/ids/987654")
    assert (answer.status_code, answer.json()["error_code"]) == (404, 40403)
