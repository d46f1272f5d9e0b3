"""Delays by hour and carrier, and over the day before: two DataNodes, of which the second depends on the first."""

import pandas as pd

from nodes import APIDataNode, DataNode, DataNodeConfiguration, DataNodeMetaData

DAY = pd.Timedelta(hours=23)  # and the hour itself


class HourlyDelaysConfig(DataNodeConfiguration):
    node_metadata: DataNodeMetaData = DataNodeMetaData(
        identifier="hourly_delays", description="Flights that left, and their minutes of delay, by hour and carrier"
    )


class HourlyDelays(DataNode):
    """One row for each hour and carrier. An hour's flights may come in several batches, each added to what stands."""

    def __init__(self, config: HourlyDelaysConfig, *, hash_namespace: str | None = None, test_node: bool = False):
        super().__init__(config, hash_namespace=hash_namespace, test_node=test_node)
        self.departures = APIDataNode.build_from_identifier("departures")

    def dependencies(self) -> dict[str, APIDataNode]:
        return {"departures": self.departures}

    def update(self) -> pd.DataFrame:
        new = self.new_rows["departures"]
        if new.empty or (left := new[new["dep_delay"].notna()]).empty:
            return pd.DataFrame()
        hour = pd.to_datetime(left["time_hour"], utc=True).rename("time_index")
        delays = left["dep_delay"].astype("int64").groupby([hour, left["carrier"].rename("unique_identifier")])
        fresh = pd.DataFrame({"flights": delays.count(), "minutes": delays.sum()})
        before = self.get_df_between_dates(hour.min(), hour.max())
        if not before.empty:
            fresh += before[["flights", "minutes"]].reindex(fresh.index, fill_value=0)
        return fresh


class DailyDelays(DataNode):
    """The mean delay of each carrier over 24 hours, at every hour in which it flew."""

    def __init__(self, config: DataNodeConfiguration, *, hash_namespace: str | None = None, test_node: bool = False):
        super().__init__(config, hash_namespace=hash_namespace, test_node=test_node)
        self.hourly = HourlyDelays(HourlyDelaysConfig())

    def dependencies(self) -> dict[str, HourlyDelays]:
        return {"hourly": self.hourly}

    def update(self) -> pd.DataFrame:
        new = self.new_rows["hourly"]
        if new.empty:
            return pd.DataFrame()
        first = new.index.get_level_values("time_index").min()
        hours = self.hourly.get_df_between_dates(first - DAY).reset_index("unique_identifier")
        day = hours.groupby("unique_identifier")[["flights", "minutes"]].rolling("24h").sum()
        day = day.swaplevel().sort_index().loc[first:]
        return pd.DataFrame({"mean_delay": day["minutes"] / day["flights"]})
