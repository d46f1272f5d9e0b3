"""The page of memory that a host shares with its service: the place in hand, the call in hand, and what was committed.

The host writes, the service reads without a lock: a torn read costs at most one look. What a host wrote last outlives
it, so that the service knows at which record it died.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from dataclasses import astuple

from streams.checkpoint.tally import Tally
from streams.programs.hand import HAND_BYTES, Hand

_TALLY = struct.Struct("=QdQQQQ")
_TALLY_AT = HAND_BYTES + 64
SIZE_BYTES = 2 * HAND_BYTES
_CALL = struct.Struct("=Qd")  # number of calls, when the present one began (monotonic s; 0: in no call)
_BEGAN = struct.Struct("=d")
_BEGAN_AT = HAND_BYTES + 8


def shared_file() -> int:
    """A descriptor of `SIZE_BYTES` that no path names; both processes map it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("millstream-progress", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE_BYTES)
    return descriptor


class Progress:
    """The shared page. `hand` is the place in hand."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, SIZE_BYTES)
        self._view = memoryview(self._page)
        self._calls = 0
        self.hand = Hand(self._view)

    def enter(self) -> None:
        """The user's code is called."""
        self._calls += 1
        _CALL.pack_into(self._page, HAND_BYTES, self._calls, time.monotonic())

    def leave(self) -> None:
        """The call has returned."""
        _BEGAN.pack_into(self._page, _BEGAN_AT, 0.0)

    @property
    def calls(self) -> int:
        """How many calls the host has begun."""
        count: int = _CALL.unpack_from(self._page, HAND_BYTES)[0]
        return count

    def call_s(self, now_s: float) -> float:
        """How long the call in hand has taken by the monotonic clock; 0 where there is none."""
        began_s: float = _BEGAN.unpack_from(self._page, _BEGAN_AT)[0]
        return now_s - began_s if began_s else 0.0

    def count(self, total: Tally) -> None:
        """The sum of the host's checkpoints is this."""
        _TALLY.pack_into(self._page, _TALLY_AT, *astuple(total))

    @property
    def tally(self) -> Tally:
        """The sum of the host's checkpoints."""
        return Tally(*_TALLY.unpack_from(self._page, _TALLY_AT))

    def close(self) -> None:
        self.hand.release()
        self._view.release()
        self._page.close()
