"""The report of a run: a table for people, JSON for keeping."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench.figure import Figure, Skipped

LOAD_IS_HIGH = 0.5  # of the processors, beside our own work: figures then say less


def show(results: Sequence[Figure | Skipped], console: Console) -> None:
    """Print the figures, each with its ratio to its limit and to what is aimed at."""
    table = Table(title="Millstream, measured", title_justify="left", caption=machine_text(), caption_justify="left")
    for heading in ("what", "figure", "slowest … fastest", "per CPU second", "of its limit", "aim"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    found = {each.name: each for each in results if isinstance(each, Figure)}
    for each in results:
        if isinstance(each, Skipped):
            table.add_row(each.title, "skipped", "", "", each.why, "")
        else:
            figure = f"{_number(each.value)} {each.unit}"
            cpu = "" if each.per_cpu_s is None else _number(each.per_cpu_s)
            table.add_row(each.title, figure, _spread(each), cpu, _of_limit(each, found), _of_aim(each))
    console.print(table)


def ratio(figure: Figure, found: dict[str, Figure]) -> float | None:
    """How much of its limit a figure reaches; for a cost, how many times the limit's it is. None without a limit."""
    limit = found.get(figure.limit or "")
    return figure.value / limit.value if limit is not None and limit.value else None


def save(results: Sequence[Figure | Skipped], path: Path) -> None:
    """Write the results, and what they were measured on, as JSON."""
    found = {each.name: each for each in results if isinstance(each, Figure)}
    data: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [{**asdict(each), "ratio": ratio(each, found)} for each in found.values()],
        "skipped": [asdict(each) for each in results if isinstance(each, Skipped)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n")


def machine() -> dict[str, Any]:
    """What a reader of the figures needs to know of where they were made."""
    return {
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1_minute": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine_text() -> str:
    known = machine()
    busy = known["load_1_minute"] > known["processors"] * (1 + LOAD_IS_HIGH)
    return (
        f"{known['processors']} processors, load {known['load_1_minute']}, Python {known['python']}, {known['system']}"
        + ("; something else was busy: trust the ratios more than the rates" if busy else "")
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _aim(aim: float) -> str:
    return f"{aim:,g}" if aim < 100 else f"{aim:,.0f}"


def _spread(figure: Figure) -> str:
    return "" if figure.spread is None else " … ".join(map(_number, figure.spread))


def _of_limit(figure: Figure, found: dict[str, Figure]) -> str:
    share = ratio(figure, found)
    if share is None:
        return ""
    return f"{share:.1f} × {figure.limit}" if figure.is_cost else f"{share:.0%} of {figure.limit}"


def _of_aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    sign = "≤" if figure.is_cost else "≥"
    return f"{sign} {_aim(figure.aim)} {'✓' if figure.reaches_aim else '✗'}"
