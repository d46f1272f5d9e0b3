"""A row for each flight that left late: a function of one record, and Millstream owns the loop."""

from typing import Any

from streams import agent

LATE_FROM_MIN = 15


@agent("departures", "delays")
def late(flight: dict[str, Any]) -> dict[str, Any] | None:
    delay = flight["dep_delay"]
    if delay is None or delay < LATE_FROM_MIN:
        return None
    return {
        "row": flight["row"],
        "at": flight["time_hour"],
        "flight": f"{flight['carrier']}{flight['flight']}",
        "origin": flight["origin"],
        "dest": flight["dest"],
        "minutes_late": int(delay),
    }


if __name__ == "__main__":
    late.run()
