"""What a run says: lines on stderr bound with node and run, kept with the run when it ends."""

from __future__ import annotations

import sys
import threading
from typing import Any

import structlog

from streams.ambient import Ambient
from streams.model.run import RunLogLine

LINES_MAX = 10_000  # of one run


class Journal:
    """The lines of one run. Safe for several threads."""

    def __init__(self, node: str, run_id: str, ambient: Ambient) -> None:
        self._run_id = run_id
        self._ambient = ambient
        self._lock = threading.Lock()
        self._lines: list[RunLogLine] = []
        self.logger = node_logger(node, run_id, keep=self._keep)

    def lines(self) -> list[RunLogLine]:
        """What was said since this was last asked."""
        with self._lock:
            found, self._lines = self._lines, []
            return found

    def _keep(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        del logger
        rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "node", "run"))
        text = f"{event.get('event', '')} {rest}".strip()
        with self._lock:
            self._number = getattr(self, "_number", -1) + 1
            if self._number < LINES_MAX:
                self._lines.append(RunLogLine(self._run_id, self._number, self._ambient.now(), method, text))
        return event


def node_logger(node: str, run_id: str | None = None, *, keep: Any = None) -> Any:
    """A logger for a node's own code. It writes as Millstream's own lines where they are configured, else to stderr."""
    if structlog.is_configured():
        processors = [*([keep] if keep else []), *structlog.get_config()["processors"]]
        logger = structlog.wrap_logger(structlog.get_logger("nodes.data_node"), processors=processors)
    else:
        processors = [
            *([keep] if keep else []),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False),
        ]
        logger = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors)
    return logger.bind(node=node) if run_id is None else logger.bind(node=node, run=run_id)
