"""The most memory that a process has held."""

from __future__ import annotations

import resource
from pathlib import Path


def own_peak_mb() -> float:
    """Of this program alone, where the system tells: `ru_maxrss` begins with what its parent held."""
    peak_mb = peak_mb_of("self")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if peak_mb is None else peak_mb


def peak_mb_of(pid: int | str) -> float | None:
    """Of a process that runs; None where the system does not tell of others."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    held = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
    return int(held.split()[1]) / 1024 if held is not None else None
