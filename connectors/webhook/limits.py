"""How much of a request is taken: lengths, and the memory that all bodies in hand may use together."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.webhook.parse import DEPTH_MAX

BODY_BYTES = 10 * 1024 * 1024
# All bodies being read or parsed at once: 16 of the largest, 256 MiB with what parsing makes of them counted apart.
BODIES_BYTES = 16 * BODY_BYTES
# "Within 10 s" is the promise for a body that never comes.
READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one webhook takes: bytes of a body, as sent and inflated; levels of nesting."""

    body_bytes: int = BODY_BYTES
    depth: int = DEPTH_MAX


class BodyBudget:
    """Bytes of bodies that may be in memory at once. Used from the event loop's thread only."""

    def __init__(self, bytes_max: int = BODIES_BYTES) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Whether there was room; if so, it is held until `release`."""
        if self.held_bytes + size_bytes > self.bytes_max:
            return False
        self.held_bytes += size_bytes
        return True

    def release(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
