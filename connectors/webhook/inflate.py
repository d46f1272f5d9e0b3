"""Compressed bodies: gzip, with the cap held while inflating, so that a small bomb never becomes a large buffer."""

from __future__ import annotations

import zlib

# What `Accept-Encoding` names in a 415.
ENCODINGS = "gzip"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class TooLarge(Exception):
    """The inflated body is over the cap; inflating stopped there."""


class BadGzip(Exception):
    """Not gzip, damaged, or cut short. `str()` says which."""


def inflate_gzip(raw: bytes, *, bytes_max: int) -> bytes:
    """The inflated bytes of one or more gzip members. Raises TooLarge beyond `bytes_max`, BadGzip.

    At most `bytes_max` + 1 bytes are ever inflated.
    """
    parts: list[bytes] = []
    size = 0
    while raw or not parts:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            part = member.decompress(raw, bytes_max - size + 1)
        except zlib.error as error:
            raise BadGzip(f"the body is not gzip as Content-Encoding says: {error}") from None
        size += len(part)
        if size > bytes_max:
            raise TooLarge
        if not member.eof:
            raise BadGzip("the gzip body is cut short")
        parts.append(part)
        raw = member.unused_data
    return b"".join(parts)
