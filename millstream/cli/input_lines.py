"""NDJSON as a command reads it, from a file or stdin: one JSON object a line, each error with its line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from connectors.webhook.parse import Body, BodyRefused, Form, parse
from streams.errors import RecordRejected, UsageError


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """The file's bytes; `-` is stdin. Raises UsageError."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", hint="name a file, or - for stdin") from error


def json_objects(stream: IO[bytes], name: str, *, records_max: int) -> Iterator[Body]:
    """The objects of the lines, so many at a time, blank lines left out.

    Raises RecordRejected at the first line that is no JSON object that every store keeps as it is; what stands before
    it was given.
    """
    number = 1
    while lines := list(islice(stream, records_max)):
        try:
            body = parse(b"".join(lines), Form.LINES) if any(line.strip() for line in lines) else Body([], [])
        except BodyRefused:
            yield _up_to_fault(lines, number, "stdin" if name == "-" else name)
            raise AssertionError("a refused batch has a refused line") from None
        number += len(lines)
        yield body


def _up_to_fault(lines: list[bytes], first: int, name: str) -> Body:
    for number, line in enumerate(lines, start=first):
        try:
            if line.strip():
                parse(line, Form.LINES)
        except BodyRefused as refused:
            detail = refused.detail.removeprefix("line 1, ").removeprefix("line 1 ")
            raise RecordRejected(
                f"{name}:{number}: {detail}", hint='each line is one JSON object, like {"a": 1}'
            ) from refused
    return Body([], [])
