"""A client of one webhook: sends batches until they are taken, and asks how far the service is."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from streams.errors import StopError

REQUEST_TIMEOUT_S = 60.0
RETRY_PAUSE_S = 0.5
RETRY_PAUSE_MAX_S = 10.0


class Refused(StopError):
    """The service refused a request for a reason that no repetition mends."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the service is: the topic's `end_offset`; `lag` of all its nodes, None if unknown; nodes that failed."""

    end_offset: int
    lag: int | None
    failures: tuple[str, ...] = ()


def read_progress(status: dict[str, Any], topic: str) -> Progress:
    """What /api/status says of source topic `topic`, over all its partitions."""
    ends: dict[int, int] = {}
    for node in status["nodes"]:
        for place in node["inputs"]:
            if (place["topic"], place["kind"]) == (topic, "source") and place["end_offset"] is not None:
                partition = place["partition"]
                ends[partition] = max(ends.get(partition, 0), place["end_offset"])
    failures = tuple(_told(node) for node in status["nodes"] if node["state"] == "failed")
    return Progress(sum(ends.values()), status["lag"], failures)


def _told(node: dict[str, Any]) -> str:
    error = node.get("error") or {}
    return f"{node['id']}: {error.get('message', 'failed')}"


class WebhookClient:
    """Talks to the service at `url` over one connection kept open.

    `require_running` raises when the service is gone for good; while it does not, a lost connection, a 503 and a 429
    are tried again, with the same body. The records carry their dedup ids, so none is taken twice.
    """

    def __init__(
        self,
        url: str,
        webhook: str,
        *,
        require_running: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = urlsplit(url).netloc
        self._webhook = webhook
        self._require_running = require_running
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> None:
        """Post a JSON array; returns when its records are durable. Raises Refused."""
        self._request("POST", f"/webhooks/{self._webhook}", body)

    def progress(self) -> Progress:
        return read_progress(json.loads(self._request("GET", "/api/status")), self._webhook)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        while True:
            try:
                status, pause_s, answer = self._exchange(method, path, body)
            except (OSError, http.client.HTTPException):
                self.close()
                pause_s = RETRY_PAUSE_S
            else:
                if status < 300:
                    return answer
                if status not in (429, 503):
                    raise Refused(f"{method} {path} was refused with {status}: {_detail(answer)}")
            self._require_running()
            self._sleep(pause_s)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, float, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=REQUEST_TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, _pause_s(response.getheaders()), response.read()


def _pause_s(headers: Iterable[tuple[str, str]]) -> float:
    asked = {name.lower(): value for name, value in headers}.get("retry-after", "")
    return min(float(asked), RETRY_PAUSE_MAX_S) if asked.isdigit() else RETRY_PAUSE_S


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
