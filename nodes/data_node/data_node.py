"""DataNode: a class whose `update()` returns the new rows of a time-indexed table."""

from __future__ import annotations

import json
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic_core import PydanticSerializationError, to_json

from nodes.data_node.configuration import DataNodeConfiguration
from nodes.data_node.frame import UPDATER
from nodes.data_node.identity import Identity, identify
from nodes.data_node.journal import node_logger
from nodes.data_node.metadata import ColumnMetaData, TableMetaData
from nodes.data_node.namespace import hash_namespace as entered_namespace
from nodes.data_node.namespace import resolve_namespace
from nodes.data_node.news import News
from nodes.data_node.origin import Origin, origin_of
from nodes.data_node.reading import TableReading
from nodes.data_node.source import DataSource
from nodes.data_node.statistics import UpdateStatistics
from nodes.data_node.table_progress import writer_progress
from nodes.data_node.tree import Results, Tree, run_tree, tree_of
from nodes.data_node.updater_run import UpdaterRun, Written, checked
from streams.errors import LeaseHeld, UsageError
from streams.model.position import Build
from streams.model.table_version import TIME_UNITS

if TYPE_CHECKING:
    import pandas as pd


_built: ContextVar[tuple[tuple[object, ...], ...]] = ContextVar("built", default=())


@contextmanager
def _being_built(cls: type, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Iterator[None]:
    """Raises UsageError where a node is built while the same one is: its dependencies would never end."""
    around, this = _built.get(), (cls, arguments, options, resolve_namespace())
    if this in around:
        names = [str(getattr(each[0], "__name__", "")) for each in (*around[around.index(this) :], this)]
        raise UsageError(
            f"{cls.__name__} depends on itself: {' -> '.join(names)}",
            hint="break the circle: build no node in __init__ that builds this one again",
        )
    token = _built.set((*around, this))
    try:
        yield
    finally:
        _built.reset(token)


class _InNamespace(ABCMeta):
    """Builds a node inside its namespace, so that the dependencies built in its `__init__` belong to it, too."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        namespace = resolve_namespace(options.get("hash_namespace"), test_node=bool(options.get("test_node")))
        with entered_namespace(namespace), _being_built(cls, arguments, options):
            node = super().__call__(*arguments, **options)
        if "identity" not in vars(node):
            raise UsageError(
                f"{cls.__name__}.__init__ does not call super().__init__",
                hint="end it with super().__init__(config=config, hash_namespace=hash_namespace, test_node=test_node)",
            )
        return node


class DataNode(DataSource, metaclass=_InNamespace):
    """Subclass it, and give `dependencies()` and `update()`.

    `hash_name` and `hash_version` count for the hashes. `identity_levels` are index levels after `unique_identifier`.
    `on_conflict` says what becomes of keys that another updater of the table has written; `key_scope = "updater"` keeps
    each updater's rows apart, in a column `updater`. `lease_wait_s` is how long a run waits for another process.
    `partition_by` lets a new table of PostgreSQL have a partition for each day, month or year of `time_index`, made as
    rows come; SQLite has one table whatever it says, and no table that stands is changed.
    """

    hash_name: ClassVar[str | None] = None
    hash_version: ClassVar[int] = 1
    identity_levels: ClassVar[tuple[str, ...]] = ()
    on_conflict: ClassVar[Literal["overwrite", "keep", "error"]] = "overwrite"
    key_scope: ClassVar[Literal["table", "updater"]] = "table"
    partition_by: ClassVar[Literal["day", "month", "year"] | None] = None
    lease_wait_s: ClassVar[float] = 60.0

    def __init__(
        self, config: DataNodeConfiguration, *, hash_namespace: str | None = None, test_node: bool = False
    ) -> None:
        if not isinstance(config, DataNodeConfiguration):
            raise TypeError(f"config is a DataNodeConfiguration, not {type(config).__name__}")
        _check_choices(type(self))
        self.config = config
        self.hash_namespace = resolve_namespace(hash_namespace, test_node=test_node)
        self.identity = self._identify()
        self.update_hash = self.identity.update_hash
        self.storage_hash = self.identity.storage_hash
        self.origin: Origin = origin_of(type(self))
        self.logger: Any = node_logger(self.update_hash)
        self.hook_error: Exception | None = None
        self.last_written: Written | None = None
        self.last_failure: tuple[str, BaseException] | None = None
        self._statistics: UpdateStatistics | None = None
        self._news: News | None = None

    def _identify(self) -> Identity:
        name = self.hash_name or type(self).__name__
        return identify(self.config, name=name, version=self.hash_version, namespace=self.hash_namespace)

    def check_unchanged(self) -> None:
        """Raises UsageError where the configuration is another than the node was built with."""
        if self._identify() != self.identity:
            raise UsageError(
                f"the configuration of {self.update_hash} was changed after the node was built",
                hint="build another node with another configuration",
            )

    # What a user gives

    @abstractmethod
    def update(self) -> pd.DataFrame:
        """The rows since the last run: a frame indexed by `time_index` in UTC (and `unique_identifier`); an empty one
        where there is nothing new."""

    @abstractmethod
    def dependencies(self) -> Mapping[str, Any]:
        """The nodes that are run before this one, by names of its own."""

    def get_table_metadata(self) -> TableMetaData | None:
        """What is published about the table; by default what the configuration's `node_metadata` says."""
        held = self.config.node_metadata
        return None if held is None else TableMetaData(**held.model_dump())

    def get_column_metadata(self) -> list[ColumnMetaData]:
        """What is published about the columns; by default what the configuration's `records` say."""
        return [ColumnMetaData(**each.model_dump()) for each in self.config.records]

    def get_asset_list(self) -> list[str] | None:
        """The identifiers to update; by default those of the configuration."""
        return self.config.asset_list

    def get_offset_start(self) -> datetime | None:
        """Where to begin when nothing was written; by default as the configuration says."""
        return self.config.offset_start

    def run_post_update_routines(self, error_on_last_update: bool) -> None:
        """Called after each run, outside its commit. What it raises is kept in `hook_error` and in the run's log."""

    # What it is

    @property
    def identifier(self) -> str | None:
        """Under which the table is published; with a namespace it is `namespace/identifier`."""
        metadata = self.get_table_metadata()
        if metadata is None or not metadata.identifier:
            return None
        return f"{self.hash_namespace}/{metadata.identifier}" if self.hash_namespace else metadata.identifier

    @property
    def update_statistics(self) -> UpdateStatistics:
        """This updater's own progress, as it was when the run began; outside a run as it is now."""
        if self._statistics is not None:
            return self._statistics
        with self._place().store.read() as tx:
            progress = writer_progress(tx, self.update_hash)
        return UpdateStatistics.of(progress, offset_start=self.get_offset_start())

    @property
    def new_rows(self) -> Mapping[str, pd.DataFrame]:
        """By dependency, the rows that its table got since this node's last run that succeeded: all of them in the
        first. They count as consumed when the run succeeds, whether they were looked at or not. See `News`."""
        if self._news is None:
            place = self._place()
            with place.store.read() as tx:
                build = tx.agents.live_build(self.update_hash) or Build(self.update_hash)
            return News(place, build, self.inputs())
        return self._news

    def see(self, statistics: UpdateStatistics | None, news: News | None) -> None:
        """What `update_statistics` and `new_rows` say from now on; None: what the store says."""
        self._statistics, self._news = statistics, news

    @property
    def is_run(self) -> bool:
        return True

    def as_node(self) -> DataNode:
        return self

    def inputs(self) -> dict[str, DataSource]:
        """`dependencies()`, asked in the node's namespace and checked. Raises TypeError."""
        with entered_namespace(self.hash_namespace):
            found = self.dependencies()
        if not isinstance(found, Mapping):
            raise TypeError(f"dependencies() of {type(self).__name__} returns a dict, not {type(found).__name__}")
        for name, each in found.items():
            if not isinstance(each, DataSource):
                kind = type(each).__name__
                raise TypeError(
                    f"dependency {name!r} of {type(self).__name__} is a DataNode or APIDataNode, not {kind}"
                )
        return dict(found)

    def shown_config(self) -> dict[str, Any]:
        """The configuration as JSON has it; what JSON cannot hold is shown by its `repr`."""
        try:
            text = self.config.model_dump_json(fallback=repr)
        except PydanticSerializationError:  # bytes of a model inside that says nothing of base64
            values = self.config.model_dump()
            text = to_json(values, bytes_mode="base64", inf_nan_mode="strings", fallback=repr).decode()
        held: dict[str, Any] = json.loads(text)
        return held

    def _reading(self) -> TableReading:
        columns = {each.column_name: each.dtype for each in self.config.records}
        return TableReading(self._place(), self.storage_hash, columns=columns, levels=self.identity_levels)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {vars(self).get('update_hash', 'not built')}>"

    # Running

    def run(
        self,
        debug_mode: bool = True,
        *,
        force_update: bool = False,
        update_tree: bool = True,
        update_only_tree: bool = False,
        override_update_stats: UpdateStatistics | None = None,
    ) -> tuple[bool, pd.DataFrame | None]:
        """Run once, dependencies first: (whether it failed, the frame that was written).

        The frame is empty when nothing was new, and None when this node was not run. With `debug_mode` the original
        error is raised, without it the run is recorded as failed and (True, None) returned; a run that another process
        holds up is no run, and is logged. `last_failure` is the update hash of what failed first, and its error.
        `update_tree=False` leaves the dependencies alone, `update_only_tree=True` this node. A node without a schedule
        is always due, so `force_update` changes nothing for it.
        """
        del force_update
        if override_update_stats is not None and not isinstance(override_update_stats, UpdateStatistics):
            kind = type(override_update_stats).__name__
            raise TypeError(f"override_update_stats is an UpdateStatistics, not {kind}")
        results, frame = self._run_all(
            tree=update_tree or update_only_tree, itself=not update_only_tree, override=override_update_stats
        )
        self.last_failure = next(iter(results.failed.items()), None)
        if self.last_failure is None:
            return False, frame
        _, first = self.last_failure
        if debug_mode:
            raise first
        if isinstance(first, LeaseHeld):  # no run, whose record would say it
            self.logger.error("not run", error=first.message, hint=first.hint)
        return True, None

    def _run_all(
        self, *, tree: bool, itself: bool, override: UpdateStatistics | None
    ) -> tuple[Results, pd.DataFrame | None]:
        place = self._place()
        found: list[pd.DataFrame] = []

        def run_one(node: DataNode) -> None:
            own = node.update_hash == self.update_hash
            if (own and not itself) or (not own and not tree):
                return
            (self if own else node)._run_alone(place, override if own else None, found if own else [])

        try:
            nodes = tree_of(self) if tree else Tree({self.update_hash: self}, {self.update_hash: frozenset()})
        except Exception as error:  # noqa: BLE001 - what dependencies() says is the user's; `run` raises it
            UpdaterRun(self, place).fail(error)
            return Results({self.update_hash: error}), None
        results = run_tree(nodes, run_one)
        return results, found[0] if found else None

    def _run_alone(self, place: Any, override: UpdateStatistics | None, found: list[pd.DataFrame]) -> None:
        try:
            self.last_written = UpdaterRun(self, place, override=override).go()
            found.append(self.last_written.frame)
        finally:
            self.see(None, None)
            self.logger = node_logger(self.update_hash)

    def dry_run(self) -> pd.DataFrame:
        """The frame that a run would write now; nothing is written, and no dependency is run. Raises FrameRefused."""
        with entered_namespace(self.hash_namespace):
            self.see(self.update_statistics, None)
            try:
                return checked(self, self.update())
            finally:
                self.see(None, None)


def _check_choices(cls: type[DataNode]) -> None:
    choices = {
        "on_conflict": ("overwrite", "keep", "error"),
        "key_scope": ("table", "updater"),
        "partition_by": (None, *TIME_UNITS),
    }
    for name, allowed in choices.items():
        if getattr(cls, name) not in allowed:
            raise UsageError(
                f"{name} of {cls.__name__} is {getattr(cls, name)!r}",
                hint=f"it is one of {', '.join(map(str, allowed))}",
            )
    for level in cls.identity_levels:
        if level == UPDATER or level.startswith("_"):
            raise UsageError(
                f"identity_levels of {cls.__name__} name {level!r}, which is a system column's",
                hint="choose another name",
            )
