"""Opaque cursors: the place where a page ended, as text that only we read."""

from __future__ import annotations

import base64
import binascii

import orjson
from starlette.exceptions import HTTPException


def write_cursor(*place: int | str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def read_numbers(cursor: str, count: int) -> tuple[int, ...]:
    """So many whole numbers, none below 0. Raises HTTPException 400."""
    place = _read(cursor, count)
    if not all(type(each) is int and each >= 0 for each in place):
        raise _refused()
    return tuple(int(str(each)) for each in place)


def read_texts(cursor: str, count: int) -> tuple[str, ...]:
    """So many texts. Raises HTTPException 400."""
    place = _read(cursor, count)
    if not all(isinstance(each, str) for each in place):
        raise _refused()
    return tuple(str(each) for each in place)


def _read(cursor: str, count: int) -> list[object]:
    try:
        place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as error:
        raise _refused() from error
    if not isinstance(place, list) or len(place) != count:
        raise _refused()
    return place


def _refused() -> HTTPException:
    return HTTPException(400, "`cursor` is not one that this route gave")
