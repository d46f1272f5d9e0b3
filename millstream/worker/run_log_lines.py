"""Lines of run logs in the shape that is promised."""

from __future__ import annotations

from millstream.status.shapes import LogLineShape
from streams.model.run import RunLogLine


def line_shape(line: RunLogLine) -> LogLineShape:
    return {"run": line.run_id, "number": line.number, "at": line.at, "stream": line.stream, "text": line.text}
