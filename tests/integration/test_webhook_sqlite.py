"""The endpoint on the embedded log: what was acknowledged is on disk, at the offsets that were told, once."""

from __future__ import annotations

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from connectors.sqlite.store import open_store
from streams.model.record import Partition
from tests.webhook_server import serve

LEADS = {
    "webhook": "leads",
    "auth": {"scheme": "hmac", "secret": "key", "id_header": "X-Id"},
}


def test_acknowledged_records_are_on_disk_at_their_offsets_once_though_each_was_sent_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    with serve(LEADS, log=store.log) as server:

        def send(sender: int) -> dict[str, int]:
            told = {}
            with httpx.Client(base_url=server.url) as client:
                for name in (f"{sender}-{i}" for i in range(25)):
                    body = json.dumps({"name": name}).encode()
                    headers = {"X-Signature": hmac.digest(b"key", body, hashlib.sha256).hex(), "X-Id": name}
                    answers = [client.post("/webhooks/leads", content=body, headers=headers).json() for _ in range(2)]
                    assert [answer["duplicates"] for answer in answers] == [0, 1]
                    assert answers[0]["offsets"] == answers[1]["offsets"]
                    told[name] = answers[0]["offsets"][0]["first"]
            return told

        with ThreadPoolExecutor(8) as senders:
            told = {name: offset for each in senders.map(send, range(8)) for name, offset in each.items()}
    store.close()

    reopened = open_store(url)
    records = reopened.log.read(Partition("leads", 0), 0, records_max=1_000).records
    reopened.close()
    assert {json.loads(record.value)["name"]: record.offset for record in records} == told
    assert [record.offset for record in records] == list(range(200))
