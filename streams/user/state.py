"""State: values that a node keeps between runs. They commit with the rows and positions of the run that set them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from streams.user.current import current_run, current_scope
from streams.user.state_codec import as_datetime


class State:
    """The node's state. Text, numbers, booleans, None, datetimes with their zone, dates, Decimals, bytes, sets, lists
    and dicts survive. A value that was got is a copy: set it again to keep a change.
    """

    def __init__(self) -> None:
        self._scope = current_scope("State()")

    def get(self) -> dict[str, Any]:
        """All values by key."""
        return {key: self._scope.values.get(key) for key in self._scope.values.keys()}  # noqa: SIM118 - not a dict

    def set(self, values: Mapping[str, Any]) -> None:
        """Replace all values by these."""
        self.reset()
        for key, value in values.items():
            self._scope.values.set(key, value)

    def get_value(self, key: str, default: Any = None) -> Any:
        return self._scope.values.get(key, default)

    def set_value(self, key: str, value: Any) -> None:
        """Raises UsageError for a value that cannot be kept."""
        self._scope.values.set(key, value)

    def get_datetime(self, key: str, default: datetime | None = None) -> datetime | None:
        """A datetime, aware, also where ISO 8601 text was set. Raises UsageError for what is none."""
        value = as_datetime(self._scope.values.get(key))
        return default if value is None else value

    def reset(self) -> None:
        """Forget all values."""
        for key in self._scope.values.keys():  # noqa: SIM118 - not a dict
            self._scope.values.delete(key)

    def should_continue(self) -> bool:
        """False when 80 % of the run's time limit is gone: end the loop, and the next run goes on from here."""
        run = self._scope.run
        return run is None or not run.time_is_up

    def request_new_run(self, wait_atleast_seconds: float = 0.0) -> None:
        """Ask for another run, so many seconds or more after this one succeeds."""
        current_run("State().request_new_run()").new_run_after_s = max(float(wait_atleast_seconds), 0.0)
