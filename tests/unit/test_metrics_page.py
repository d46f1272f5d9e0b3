"""The metrics that are exported, the page that lists them and the dashboard that shows them name the same ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def exported() -> set[str]:
    text = (ROOT / "millstream" / "service" / "metrics.py").read_text()
    found = re.findall(r'(Gauge|Counter)\(\s*"(millstream_\w+)"', text)
    return {f"{name}_total" if kind == "Counter" else name for kind, name in found}


def test_the_page_lists_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `millstream_")]
    assert {name for row in rows for name in re.findall(r"`(millstream_\w+)`", row)} == exported()


def test_the_dashboard_asks_for_metrics_that_exist_and_tells_what_it_shows() -> None:
    board = json.loads((ROOT / "docs" / "grafana" / "millstream.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert {name for expression in asked for name in re.findall(r"millstream_\w+", expression)} <= exported()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["title"] and panel["description"] for panel in board["panels"])


def test_the_dashboard_shows_what_an_operator_asks_first() -> None:
    board = json.loads((ROOT / "docs" / "grafana" / "millstream.json").read_text())
    shown = {panel["title"]: panel["targets"][0]["expr"] for panel in board["panels"]}
    wanted = {
        "Lag": "millstream_lag_records",
        "Records read": "millstream_next_offset",
        "Rows written": "millstream_table_end_offset",
        "Checkpoints": "millstream_checkpoints_total",
        "Seconds a checkpoint": "millstream_checkpoint_seconds_total",
        "Fenced batches": "millstream_fenced_batches_total",
        "Dead letters": "millstream_dead_letters",
    }
    assert {title for title, metric in wanted.items() if metric in shown.get(title, "")} == set(wanted)
