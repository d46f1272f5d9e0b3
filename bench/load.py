"""Load over HTTP: one body, posted again and again over so many connections, each request with an id of its own.

`wrk` makes it where it is installed, since it costs the server the least; else a client of our own in its own process:
`python -m bench.load`.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Request:
    """What is posted. `id_header` names the header that gets the request's own id."""

    port: int
    path: str
    body: bytes
    headers: Mapping[str, str]
    id_header: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`failed` counts answers that were not 2xx. Latencies in seconds."""

    requests: int
    failed: int
    duration_s: float
    p50_s: float
    p99_s: float

    @property
    def per_second(self) -> float:
        return self.requests / self.duration_s


def post(request: Request, *, connections: int, duration_s: float) -> Outcome:
    """Post for so long. Raises RuntimeError where any answer is no 2xx."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        program = shutil.which("wrk")
        if program is not None:
            outcome = _wrk(program, request, body, connections, duration_s)
        else:
            outcome = _own(request, body, connections, duration_s)
    if outcome.failed or not outcome.requests:
        raise RuntimeError(f"{outcome.failed} of {outcome.requests} requests to {request.path} failed")
    return outcome


_SCRIPT = """
local made = 0
function setup(thread) thread:set("number", made); made = made + 1 end
function init(args)
  local file = io.open("{body}", "rb"); body = file:read("*a"); file:close()
  sent = 0; headers = {{ {headers} }}; name = tostring(os.time()) .. "-" .. tostring({{}}) .. "-" .. number .. "-"
end
function request()
  sent = sent + 1
  {set_id}
  return wrk.format("POST", "{path}", headers, body)
end
"""


def _wrk(program: str, request: Request, body: Path, connections: int, duration_s: float) -> Outcome:
    headers = ", ".join(f'["{name}"] = "{value}"' for name, value in request.headers.items())
    set_id = f'headers["{request.id_header}"] = name .. sent' if request.id_header else ""
    script = body.with_name("post.lua")
    script.write_text(_SCRIPT.format(body=body, headers=headers, set_id=set_id, path=request.path))
    command = [program, "-t1", f"-c{connections}", f"-d{max(round(duration_s), 1)}s", "--latency", "-s", str(script)]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{request.port}"], check=True, capture_output=True, text=True
    ).stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", said)
    if total is None:
        raise RuntimeError(f"wrk said {said}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Outcome(
        int(total[1]),
        int(failed[1]) if failed else 0,
        float(total[2]) * SECONDS[total[3]],
        _percentile(said, 50),
        _percentile(said, 99),
    )


def _percentile(said: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)", said)
    return float(found[1]) * SECONDS[found[2]] if found else 0.0


def _own(request: Request, body: Path, connections: int, duration_s: float) -> Outcome:
    given = {**asdict(request), "body": str(body), "headers": dict(request.headers)}
    words = [json.dumps(given), str(connections), str(duration_s)]
    said = subprocess.run([sys.executable, "-m", "bench.load", *words], check=True, capture_output=True, text=True)
    return Outcome(**json.loads(said.stdout))


class _Connection(asyncio.Protocol):
    """One connection: the next request goes out as soon as the last is answered."""

    def __init__(self, head: bytes, body: bytes, name: str, deadline_s: float) -> None:
        self._head, self._body, self._name, self._deadline_s = head, body, name, deadline_s
        self._left = b""
        self._sent = 0
        self.took_s: list[float] = []
        self.failed = 0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent += 1
        self._began_s = time.perf_counter()
        self._transport.write(self._head.replace(b"{id}", f"{self._name}-{self._sent}".encode()) + self._body)

    def data_received(self, data: bytes) -> None:
        self._left += data
        head, end, rest = self._left.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if not end or len(rest) < int(length[1] if length else 0):
            return
        self._left = b""
        self.took_s.append(time.perf_counter() - self._began_s)
        self.failed += not head.startswith(b"HTTP/1.1 2")
        if time.perf_counter() < self._deadline_s:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is the protocol's
        if not self.ended.done():
            self.ended.set_result(None)


async def _post(request: Request, connections: int, duration_s: float) -> Outcome:
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(request.body)), **request.headers}
    if request.id_header:
        headers[request.id_header] = "{id}"
    lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    head = "\r\n".join(lines).encode()
    began_s = time.perf_counter()
    run = str(time.time_ns())

    def connect(number: int) -> _Connection:
        return _Connection(head, request.body, f"{run}-{number}", began_s + duration_s)

    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda number=number: connect(number), "127.0.0.1", request.port))[1]  # type: ignore[misc]  # mypy knows no default of a lambda
        for number in range(connections)
    ]
    await asyncio.gather(*(each.ended for each in made))
    took_s = sorted(each for connection in made for each in connection.took_s)
    return Outcome(
        len(took_s),
        sum(each.failed for each in made),
        time.perf_counter() - began_s,
        took_s[len(took_s) // 2],
        took_s[len(took_s) * 99 // 100],
    )


def main(words: list[str]) -> None:
    given = json.loads(words[0])
    request = Request(**{**given, "body": Path(given["body"]).read_bytes()})
    print(json.dumps(asdict(asyncio.run(_post(request, int(words[1]), float(words[2]))))))


if __name__ == "__main__":
    main(sys.argv[1:])
