"""What an agent loop owns: partitions of its build by epoch, or the build as a whole, and where each of them stands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from streams import crash_points
from streams.agents.agent_spec import AgentSpec
from streams.agents.feed import Feed
from streams.errors import Fenced, StoreUnavailable
from streams.history.rebuild import Rebuild
from streams.model.position import Build, Owner, Position
from streams.model.record import Partition
from streams.model.source import OnGap
from streams.store import Store, Transaction


class Owned:
    """`positions` are those that are stored or, while a checkpoint flies, those that it will have stored. `feed` reads
    on from them. `owner` is the build's, once it is claimed."""

    def __init__(self, spec: AgentSpec, store: Store, *, rebuild: Rebuild | None) -> None:
        self._spec = spec
        self._store = store
        self._rebuild = rebuild
        self.build = rebuild.build if rebuild is not None else Build(spec.name)
        self.owner: Owner | None = None
        self.positions: dict[Partition, Position] = {}
        self.feed = self._make_feed(self.build)

    @property
    def claimed(self) -> bool:
        return bool(self.positions) or self.owner is not None

    def claim(self, partitions: Sequence[Partition]) -> None:
        """Raise the epochs: every older owner is fenced from here on. Raises StoreUnavailable, CommitUnknown."""
        partitions = sorted(partitions)
        starts = self.feed.starts_in_topics(partitions)
        writes = (self._spec.output,) if self._spec.output else ()
        with self._store.write() as tx:
            build = self.build
            if self._rebuild is None:
                build = tx.agents.live_build(self._spec.name) or build
                tx.agents.make_build(build, live=True, writes=writes)
            starts |= self._make_feed(build).starts_in_tables(tx, partitions)
            if self._spec.whole:
                owner: Owner | None = tx.agents.claim(build)
                stored = {position.partition: position for position in tx.agents.positions(build)}
                claimed = [stored.get(partition, starts[partition]) for partition in partitions]
            else:
                claimed = [tx.agents.claim_position(build, starts[partition]) for partition in partitions]
                owner = tx.agents.owner(build)
            if self._rebuild is None and owner is not None and not owner.live:
                raise StoreUnavailable(f"{build} was replaced by a rewind as it was claimed", hint="it is tried again")
            crash_points.reach("start.claiming")
        self.build, self.owner = build, owner
        self.feed = self._make_feed(build)
        self.positions = {position.partition: position for position in claimed}
        crash_points.reach("start.claimed")

    def _make_feed(self, build: Build) -> Feed:
        spec, sources = self._spec, self._spec.sources
        if self._rebuild is not None:  # what the live build has read must not be missing from what replaces it
            sources = {name: replace(said, on_gap=OnGap.STOP) for name, said in sources.items()}
        return Feed(self._store, build, on_new_version=spec.on_new_version, sources=sources)

    def reread(self) -> None:
        """Go on from what is stored. Raises Fenced where somebody else has taken over meanwhile."""
        with self._store.read() as tx:
            owner = tx.agents.owner(self.build)
            stored = {position.partition: position for position in tx.agents.positions(self.build)}
        if self._spec.whole:
            if owner is None or self.owner is None or owner.epoch != self.owner.epoch:
                raise Fenced(f"{self.build} was taken over", hint="another worker runs it now")
            self.owner = owner
        for partition, mine in self.positions.items():
            now = stored.get(partition, mine)
            if not self._spec.whole and now.epoch != mine.epoch:
                raise Fenced(f"{partition} of {self.build} was taken over", hint="another worker reads it now")
            self.positions[partition] = now

    def follow(self, wanted: Collection[Partition]) -> None:
        """Let go of partitions that are not wanted, and claim those that are new. Nothing may be in flight."""
        for partition in self.positions.keys() - set(wanted):
            del self.positions[partition]
        fresh = sorted(set(wanted) - self.positions.keys())
        if not fresh:
            return
        if self._spec.whole:
            starts = self.feed.starts(fresh)
            with self._store.read() as tx:
                stored = {position.partition: position for position in tx.agents.positions(self.build)}
            self.positions.update({each: stored.get(each, starts[each]) for each in fresh})
            return
        starts = self.feed.starts_in_topics(fresh)
        with self._store.write() as tx:
            starts |= self.feed.starts_in_tables(tx, fresh)
            claimed = [tx.agents.claim_position(self.build, starts[each]) for each in fresh]
        self.positions.update({position.partition: position for position in claimed})

    def prove(self, tx: Transaction, partition: Partition) -> None:
        """Lock the position where it stands, under the epoch that we hold. Raises Fenced."""
        position = self.positions[partition]
        if not tx.agents.swap_position(self.build, position, position):
            raise Fenced(f"{partition} of {self.build} was taken over", hint="another worker reads it now")

    def moved(self, position: Position) -> None:
        """A checkpoint has moved a partition to here, or will have when it lands."""
        self.positions[position.partition] = position
        self.counted()

    def counted(self) -> None:
        """A checkpoint was taken."""
        if self._spec.whole and self.owner is not None:
            self.owner = replace(self.owner, checkpoint_number=self.owner.checkpoint_number + 1)
