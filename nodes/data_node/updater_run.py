"""One run of one updater: its frame, its statistics, its places in the tables of its dependencies and its run record
commit in one checkpoint, or nothing does.

CLAIMED    the lease is held, the epoch raised, the run shown as running; older runs that were killed are marked
UPDATED    `update()` has returned a frame that can be written
COMMITTED  rows, statistics, places, run and ledger are durable; hooks and the identifier's view follow
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nodes.data_node.catalogue import Catalogue, StoredTable, Updater
from nodes.data_node.errors import KeyConflict
from nodes.data_node.frame import check_frame
from nodes.data_node.frame_rows import encoded
from nodes.data_node.journal import Journal
from nodes.data_node.key_conflicts import Standing, keys_of_others, standing_of
from nodes.data_node.namespace import hash_namespace
from nodes.data_node.news import News
from nodes.data_node.origin import code_hash
from nodes.data_node.publishing import show_identifier
from nodes.data_node.run_lease import run_lease
from nodes.data_node.statistics import Progress, UpdateStatistics, as_us, progress_of
from nodes.data_node.table_progress import writers_of
from nodes.data_node.workplace import Workplace
from streams import crash_points
from streams.checkpoint.checkpoint import Checkpoint
from streams.checkpoint.effect import Write
from streams.checkpoint.output import Outcome
from streams.checkpoint.whole_commit import commit_whole
from streams.errors import MillstreamError, StoreUnavailable
from streams.model.position import Build, Owner
from streams.model.run import Run, RunStatus
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows
from streams.store import Transaction

if TYPE_CHECKING:
    import pandas as pd

    from nodes.data_node.data_node import DataNode

CONFLICT_ATTEMPTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Written:
    """What a run came to. `inserted` rows had new keys, `rewritten` ones changed, `others` stood by another updater."""

    run: Run
    frame: pd.DataFrame
    inserted: int = 0
    rewritten: int = 0
    others: int = 0


class _StandsOtherwise(Exception):
    """The table was written since it was looked at for conflicts."""


class UpdaterRun:
    """A run of one node at a workplace. `override` replaces the statistics that `update()` sees."""

    def __init__(self, node: DataNode, place: Workplace, *, override: UpdateStatistics | None = None) -> None:
        self._node = node
        self._place = place
        self._override = override
        self._build = Build(node.update_hash)
        self._began_s = place.ambient.monotonic()
        self.record = Run(
            place.ambient.new_id(),
            node.update_hash,
            RunStatus.RUNNING,
            place.ambient.now(),
            place.runs_by,
        )
        self._journal = Journal(node.update_hash, self.record.run_id, place.ambient)

    def go(self) -> Written:
        """Raises what `update()` raises, FrameRefused, KeyConflict, HashClash, IdentifierClash, and what a commit
        raises; the run is then recorded as failed and nothing of it was written. Raises LeaseHeld: it was no run."""
        node = self._node
        with run_lease(self._place, node.update_hash, wait_s=node.lease_wait_s), hash_namespace(node.hash_namespace):
            begun = False
            try:
                node.check_unchanged()
                owner, before = self._begin()
                begun, node.logger = True, self._journal.logger
                written = self._update(owner, before)
            except BaseException as error:
                self.fail(error)
                if begun:
                    self._after(failed=True)
                raise
            self._publish()
            self._after(failed=False)
            return written

    # The beginning

    def _begin(self) -> tuple[Owner, Progress]:
        node = self._node
        with self._place.store.write() as tx:
            catalogue = Catalogue(tx)
            catalogue.lock()
            register(node, catalogue)
            self._build = tx.agents.live_build(node.update_hash) or self._build
            tx.agents.make_build(self._build, live=True, writes=(node.storage_hash,))
            owner = tx.agents.claim(self._build)
            self._mark_interrupted(tx)
            tx.runs.save(self.record)
            before = Progress.read(tx.states.read(self._build))
            crash_points.reach("start.claiming")
        crash_points.reach("start.claimed")
        return owner, before

    def _mark_interrupted(self, tx: Transaction) -> None:
        """Whoever ran this node before and has not said how it ended was killed: the lease is ours."""
        for run in tx.runs.unfinished():
            if run.node == self._node.update_hash:
                ended = replace(run, status=RunStatus.INTERRUPTED, finished_at=self._place.ambient.now())
                tx.runs.save(replace(ended, error="its process ended before it could say how"))

    # The work

    def _update(self, owner: Owner, before: Progress) -> Written:
        node = self._node
        offset_start = node.get_offset_start()
        statistics = self._override or UpdateStatistics.of(before, offset_start=offset_start)
        self._news = News(self._place, owner.build, node.inputs())
        node.see(statistics, self._news)
        frame = checked(node, node.update())
        if not len(frame):
            self._journal.logger.info("nothing new")
            return self._finish(owner, before, frame)
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            try:
                return self._write(owner, before, frame)
            except _StandsOtherwise:
                continue
        raise StoreUnavailable(
            f"table {node.storage_hash} was written {CONFLICT_ATTEMPTS_MAX} times while this run looked for conflicts",
            hint="run it again when the other updaters rest",
        )

    def _write(self, owner: Owner, before: Progress, frame: pd.DataFrame) -> Written:
        """One attempt, which stands only if nobody else has written the table since the conflicts were looked for."""
        node = self._node
        rows, options = self._encoded(frame)
        with self._place.store.read() as tx:
            standing = standing_of(tx, node.storage_hash)
            others = self._others(tx, rows, options)
        if others and node.on_conflict == "error":
            shown = ", ".join(str(tuple(map(str, key))) for key in sorted(others, key=str)[:3])
            raise KeyConflict(
                f"keys of another updater of {node.storage_hash}: {len(others)}, such as {shown}",
                hint='set on_conflict to "overwrite" or "keep", or key_scope to "updater"',
            )
        if others and node.on_conflict == "keep":
            frame = _without(frame, others)
            rows, options = self._encoded(frame)
        if others:
            done = "left as they are" if node.on_conflict == "keep" else "overwritten"
            self._journal.logger.warning(f"keys of another updater are {done}", keys=len(others))
        return self._finish(owner, before, frame, rows=rows, options=options, standing=standing, others=len(others))

    def _encoded(self, frame: pd.DataFrame) -> tuple[Rows, TableOptions]:
        node = self._node
        updater = node.update_hash if node.key_scope == "updater" else None
        return encoded(frame, updater=updater, partition_by=node.partition_by, records=_records(node))

    def _others(self, tx: Transaction, rows: Rows, options: TableOptions) -> set[tuple[object, ...]]:
        if self._node.key_scope == "updater" or len(writers_of(tx, self._node.storage_hash)) < 2:
            return set()
        sources = [field.source for field in rows.schema.fields]
        places = [sources.index(name) for name in options.unique_on]
        keys = [tuple(row[p] for p in places) for chunk in rows.encoded(rows.schema) for row in chunk]
        return keys_of_others(tx, self._node.storage_hash, options.unique_on, keys, agent=self._node.update_hash)

    def _finish(
        self,
        owner: Owner,
        before: Progress,
        frame: pd.DataFrame,
        *,
        rows: Rows | None = None,
        options: TableOptions | None = None,
        standing: Standing | None = None,
        others: int = 0,
    ) -> Written:
        node, now = self._node, self._place.ambient.now()
        run_us = Progress(run_us=as_us(now))
        come_to = (progress_of(frame) if len(frame) else Progress()).advanced(run_us)
        outcome: list[Outcome] = []

        def settle(done: Outcome) -> dict[str, bytes | None]:
            outcome[:] = [done]
            inserted = sum(each.inserted for each in done.ranges)
            return before.advanced(replace(come_to, rows=inserted)).changes(before)

        def guard(tx: Transaction) -> None:
            tx.tables.lock_table(node.storage_hash)
            if standing is not None and standing_of(tx, node.storage_hash) != standing:
                raise _StandsOtherwise

        has_rows = rows is not None and options is not None and len(rows)
        effects = (
            (Write(node.storage_hash, rows, [None] * len(rows), upsert=True, options=options),)
            if rows is not None and options is not None and has_rows
            else ()
        )
        ended = replace(
            self.record,
            status=RunStatus.SUCCEEDED,
            rows_in=self._news.given,
            finished_at=now,
            duration_s=self._place.ambient.monotonic() - self._began_s,
        )
        checkpoint = Checkpoint(
            build=owner.build,
            epoch=owner.epoch,
            code_hash=code_hash(type(node)),
            run_id=self.record.run_id,
            started_at=self.record.started_at,
            moves=self._news.moves(),
            checkpoint_number=owner.checkpoint_number,
            segment=owner.segment,
            effects=effects,
            run=ended,
            guard=guard if has_rows else None,
            settle=settle,
        )
        _, stored = commit_whole(self._place.store, checkpoint, owner, ambient=self._place.ambient)
        self.record = stored or ended
        ranges = outcome[-1].ranges if outcome else ()
        inserted, moved = sum(each.inserted for each in ranges), sum(each.moved for each in ranges)
        if has_rows:
            self._journal.logger.info("written", rows=inserted, rewritten=moved, late=self.record.late)
        return Written(self.record, frame, inserted, moved, others)

    # The end

    def _publish(self) -> None:
        """The identifier's view follows the commit, and may be late: the next run shows it, too."""
        with self._said("the identifier does not show the table yet"):
            show_identifier(self._place.store, self._node.identifier)

    def fail(self, error: BaseException) -> None:
        """Record that the run ended by this error, where the store can be reached; else the next run says so."""
        status = RunStatus.INTERRUPTED if isinstance(error, KeyboardInterrupt | SystemExit) else RunStatus.FAILED
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._journal.logger.error("the run failed", error=text)
        self.record = replace(
            self.record,
            status=status,
            error=text,
            finished_at=self._place.ambient.now(),
            duration_s=self._place.ambient.monotonic() - self._began_s,
        )
        with self._said("the end of the run is not recorded"), self._place.store.write() as tx:
            held = tx.runs.get(self.record.run_id)
            if held is None or held.status is not RunStatus.SUCCEEDED:  # what has committed is not called failed
                tx.runs.save(self.record)

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """A store that is away hides neither what the run came to nor how it failed."""
        try:
            yield
        except MillstreamError as error:
            self._journal.logger.warning(what, error=error.message)

    def _after(self, *, failed: bool) -> None:
        """The user's hook, whose failure is its own; then what was said is kept."""
        try:
            self._node.run_post_update_routines(failed)
        except Exception as error:  # noqa: BLE001 - the user's code; recorded, and the run stands as it is
            self._node.hook_error = error
            text = f"{type(error).__name__}: {error}"
            self._journal.logger.error("run_post_update_routines failed", error=text)  # noqa: TRY400 - one line
        lines = self._journal.lines()
        if lines:
            with self._said("the lines of the run are not kept"), self._place.store.write() as tx:
                tx.runs.log(lines)


def checked(node: DataNode, frame: object) -> pd.DataFrame:
    """What `update()` returned, if it can be written. Raises FrameRefused."""
    return check_frame(frame, levels=node.identity_levels, records=_records(node))


def _records(node: DataNode) -> dict[str, str]:
    """The dtypes of declared columns."""
    return {each.column_name: each.dtype for each in node.config.records}


def _without(frame: pd.DataFrame, keys: set[tuple[object, ...]]) -> pd.DataFrame:
    import numpy as np

    index: Any = frame.index
    mine = index.to_flat_index() if index.nlevels > 1 else [(value,) for value in index]
    kept = np.fromiter((tuple(_plain(part) for part in key) not in keys for key in mine), dtype=bool, count=len(frame))
    return frame[kept]


def _plain(value: Any) -> object:
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value


def register(node: DataNode, catalogue: Catalogue) -> None:
    """Make the node known. Raises HashClash, IdentifierClash."""
    metadata = node.get_table_metadata()
    columns = [each.model_dump() for each in node.get_column_metadata()]
    table = StoredTable(
        node.storage_hash,
        node.origin,
        node.hash_namespace,
        node.identifier,
        metadata.description if metadata is not None else None,
        tuple(columns),
        tuple(node.identity_levels),
        node.key_scope,
        node.partition_by,
    )
    catalogue.claim_table(table)
    if node.identifier is not None:
        catalogue.claim_identifier(node.identifier, node.storage_hash)
    catalogue.save_updater(
        Updater(
            node.update_hash,
            node.storage_hash,
            node.origin,
            node.hash_namespace,
            node.shown_config(),
            node.identity.update_input,
            node.identity.storage_input,
            {name: getattr(each, "update_hash", None) or each.storage_hash for name, each in node.inputs().items()},
        )
    )
