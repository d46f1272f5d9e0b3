"""A test's order to die: MILLSTREAM_TEST_CRASH_POINT="name[:n]" kills the process at the n-th reach of that place."""

from __future__ import annotations

import os
import signal

from streams import crash_points
from streams.errors import UsageError

VARIABLE = "MILLSTREAM_TEST_CRASH_POINT"


def arm_from(text: str) -> None:
    """Arm the place that the text names. Raises UsageError for one that does not exist."""
    name, _, count = text.partition(":")
    if name not in crash_points.NAMES:
        raise UsageError(f"{VARIABLE}: there is no place {name!r}", hint=f"places: {', '.join(crash_points.NAMES)}")
    left = int(count or "1")

    def die_at(reached: str) -> None:
        nonlocal left
        if reached != name:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    crash_points.arm(die_at)
