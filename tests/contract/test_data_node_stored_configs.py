"""Configurations as the catalogue keeps them, on every store: a node is built from one again, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from millstream.data_node_facts import updater_json
from millstream.data_node_target import build_target
from millstream.json_answer import json_bytes
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.workplace import Workplace, using_store
from streams.errors import UsageError
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_node_configs import LongPart, Part, Values, ValuesConfig


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


@pytest.mark.parametrize(
    "fields",
    [
        {"raw": b"\xff\x00"},
        {"raw": b"plain"},
        {"whole": 10**25},
        {"number": float("inf")},
        {"by_name": {"low": float("-inf"), "high": 1.5}},
        {"anything": 10**25},
        {"part": Part(a=7)},
    ],
)
def test_a_node_is_built_again_from_what_is_stored_of_it(store: Store, tmp_path: Path, fields: dict[str, Any]) -> None:
    node = Values(ValuesConfig(**fields))
    assert node.run()[0] is False
    again = build_target(store, node.update_hash, config=None, directory=tmp_path)
    assert (again.update_hash, again.config) == (node.update_hash, node.config)
    with store.read() as tx:
        updater = Catalogue(tx).updater(node.update_hash)
        assert updater is not None
        assert orjson.loads(json_bytes(updater_json(tx, updater)))["update_hash"] == node.update_hash


@pytest.mark.parametrize(
    "fields",
    [
        {"part": LongPart(b=9)},
        {"part": Part(raw=b"\xff")},
        {"unsaid": 3},
        {"anything": datetime(2024, 1, 1, tzinfo=UTC)},
        {"anything": float("inf")},
    ],
)
def test_what_is_stored_of_a_node_builds_no_other_one(store: Store, tmp_path: Path, fields: dict[str, Any]) -> None:
    node = Values(ValuesConfig(**fields))
    assert node.run()[0] is False
    with pytest.raises(UsageError, match="does not give it again"):
        build_target(store, node.update_hash, config=None, directory=tmp_path)
    given = build_target(store, node.update_hash, config='{"whole": 1}', directory=tmp_path)
    assert given.update_hash == Values(ValuesConfig(whole=1)).update_hash
