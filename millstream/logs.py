"""Logging: structlog for our own lines and the standard library's for others', written to one stream or file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import structlog


def configure_logging(
    log_format: Literal["console", "json"],
    *,
    streams: Sequence[IO[str]] = (),
    warnings_to: IO[str] | None = None,
    level: int = logging.INFO,
) -> None:
    """Send every log line to each of `streams` (stderr where there is none), and what needs a person to `warnings_to`,
    too, in short."""
    outs = streams or [sys.stderr]
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=all(out.isatty() for out in outs))]
        if log_format == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    root = logging.getLogger()
    root.handlers[:] = [logging.StreamHandler(out) for out in outs]
    for handler in root.handlers:
        handler.setFormatter(formatter)
    if warnings_to is not None:
        root.addHandler(_short_warnings(warnings_to, before))
    root.setLevel(logging.WARNING)
    for name in ("millstream", "connectors", "nodes", "streams"):
        logging.getLogger(name).setLevel(level)


def _short_warnings(stream: IO[str], before: list[structlog.typing.Processor]) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[remove, _in_short]))
    return handler


def _in_short(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
    """`warning: what happened: the error (node score)`, as the command line words its own errors."""
    said = ": ".join(str(event[key]) for key in ("event", "place", "error") if event.get(key))
    about = f" ({event['node']})" if event.get("node") else ""
    hint = f"\n  {event['hint']}" if event.get("hint") else ""
    return f"{event['level']}: {said}{about}{hint}"


def open_log_file(path: Path) -> IO[str]:
    """A file that lines are added to as they come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8", buffering=1)
