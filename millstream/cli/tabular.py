"""Tables for people, by rich: as wide as the terminal, or as wide as they need where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from millstream.json_answer import json_bytes

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 10_000
CELL_MAX = 80  # characters of one value on a terminal


def on_terminal() -> bool:
    return sys.stdout.isatty()


def console() -> Console:
    """For stdout."""
    from rich.console import Console

    return Console(width=None if on_terminal() else PIPED_WIDTH, highlight=False, emoji=False, markup=False)


def show_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """Print rows under their headers; numbers to the right. `empty` is said in place of no rows."""
    from rich.table import Table
    from rich.text import Text

    held = [list(row) for row in rows]
    if not held and empty:
        sys.stdout.write(empty + "\n")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, header in enumerate(headers):
        numeric = bool(held) and all(isinstance(row[place], int | float | None) for row in held)
        table.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in held:
        table.add_row(*(Text(cell(value)) for value in row))
    out = console()
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def show_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line; what is None is left out."""
    held = [(name, value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in held), default=0)
    for name, value in held:
        sys.stdout.write(f"{name:<{width}}  {cell(value, cut=isinstance(value, datetime))}\n")


def lag_cell(lag: int | None) -> int | str:
    """How many records wait, as people read it."""
    return "unknown" if lag is None else lag


def cell(value: object, *, cut: bool = True) -> str:
    """A value in a cell: times to the second in UTC, structures as JSON, long texts cut on a terminal. Without `cut`
    the whole value, times and floats to their last digit."""
    if value is None:
        return "-"
    if isinstance(value, datetime) and cut:
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if cut else repr(value)
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else _json(value)
    text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\x1b", "\\x1b")
    return text[: CELL_MAX - 1] + "…" if cut and on_terminal() and len(text) > CELL_MAX else text


def _json(value: object) -> str:
    text = json_bytes(value).decode()
    return text[1:-1] if text.startswith('"') else text


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
