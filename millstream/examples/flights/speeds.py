"""How fast each flight flew: a function of a frame of records, the fast path for work by column."""

import pandas as pd

from streams import agent


@agent("departures", "speeds", frames=True)
def speed(flights: pd.DataFrame) -> pd.DataFrame:
    flown = flights[flights["air_time"].notna()]
    return pd.DataFrame(
        {
            "row": flown["row"],
            "carrier": flown["carrier"],
            "miles_per_hour": flown["distance"] * 60 / flown["air_time"].astype("float64"),
        }
    )


if __name__ == "__main__":
    speed.run()
