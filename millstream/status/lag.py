"""How many records wait for each node: its positions against the ends of what it reads, asked in one snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nodes.graph.due import Lags
from nodes.graph.node import Dataset, Node
from streams.agents.partitions import Topics, topics_called
from streams.errors import StoreRefused, TransientError
from streams.log import TopicInfo
from streams.model.position import Build, Position
from streams.model.record import Kind, Partition
from streams.model.table_version import Sequencer, VersionInfo, VersionState
from streams.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class InputLag:
    """Where one node stands on one partition. None: it can't be known, as after the topic was made anew. `refused`: why
    the log does not show the topic."""

    partition: Partition
    next_offset: int
    end_offset: int
    lag: int | None
    is_away: bool = False
    refused: StoreRefused | None = None


def read_input_lags(store: Store, nodes: Sequence[Node]) -> dict[str, list[InputLag]]:
    """For each node, every partition of its inputs, lookups left out; of a topic that the log refuses one at least. A
    node in error whose inputs the graph does not know stands at what the store holds for it, with lags of None."""
    unread = [node for node in nodes if node.errors and not node.inputs]
    held = _held(store, unread) if unread else {}
    names = {each.dataset.name for node in nodes for each in node.inputs if each.dataset.kind is Kind.SOURCE}
    names |= {each.topic for positions in held.values() for each in positions if each.kind is Kind.SOURCE}
    try:
        topics = topics_called(store.log, names)
    except TransientError:
        if not store.log.has_groups:
            raise
        topics = None  # a log elsewhere is away: tables go on
    with store.read() as tx:
        ends = _Ends(tx, topics)
        return {
            node.node_id: _unknown_lags(held[node.node_id], ends)
            if node.node_id in held
            else list(_input_lags(tx, node, ends))
            for node in nodes
        }


def summed(input_lags: dict[str, list[InputLag]], nodes: Iterable[Node]) -> Lags:
    """Lags by dataset, as what is due is decided on."""
    lags: dict[str, dict[Dataset, int | None]] = {}
    for node in nodes:
        of_node: dict[Dataset, int | None] = {each.dataset: 0 for each in node.triggering}
        for each in input_lags.get(node.node_id, ()):
            dataset = Dataset(each.partition.kind, each.partition.topic)
            if each.is_away:
                continue  # nothing is due because a log cannot be asked
            before = of_node.get(dataset, 0)
            of_node[dataset] = None if before is None or each.lag is None else before + each.lag
        lags[node.node_id] = of_node
    return lags


class _Ends:
    """The ends of topics and table versions, each read once."""

    def __init__(self, tx: Transaction, topics: Topics | None) -> None:
        self._tx = tx
        self.topics = topics
        self._versions: dict[str, list[VersionInfo]] = {}
        self._sequencers: dict[tuple[str, int], list[Sequencer]] = {}

    def topic(self, name: str) -> TopicInfo | None:
        return self.topics.found.get(name) if self.topics is not None else None

    def versions(self, table: str) -> list[VersionInfo]:
        """Those that can be read, in the order in which they became active."""
        if table not in self._versions:
            readable = (
                version
                for version in self._tx.tables.versions(table)
                if version.activation is not None and version.state in {VersionState.ACTIVE, VersionState.SEALED}
            )
            self._versions[table] = sorted(readable, key=lambda version: version.activation or 0)
        return self._versions[table]

    def of_version(self, table: str, version: int) -> list[Sequencer]:
        key = (table, version)
        if key not in self._sequencers:
            self._sequencers[key] = list(self._tx.tables.sequencers(table, version))
        return self._sequencers[key]


def _input_lags(tx: Transaction, node: Node, ends: _Ends) -> Iterator[InputLag]:
    build = tx.agents.live_build(node.agent_name) or Build(node.agent_name)
    positions = {position.partition: position for position in tx.agents.positions(build)}
    return _lags((each.dataset for each in node.triggering), positions, ends)


def _held(store: Store, nodes: Sequence[Node]) -> dict[str, dict[Partition, Position]]:
    """By node, the positions of its live builds, and of those of the `@agent` functions that its file may have. Where
    several stand on one partition, it is the one furthest behind."""
    found: dict[str, dict[Partition, Position]] = {node.node_id: {} for node in nodes}
    with store.read() as tx:
        builds = [owner.build for owner in tx.agents.builds() if owner.live]
        for node in nodes:
            of_node = (
                each for each in builds if each.agent == node.agent_name or each.agent.startswith(f"{node.node_id}:")
            )
            places = [position for build in of_node for position in tx.agents.positions(build)]
            places.sort(key=lambda position: (position.version, position.next_offset), reverse=True)
            found[node.node_id] = {position.partition: position for position in places}
    return found


def _unknown_lags(positions: dict[Partition, Position], ends: _Ends) -> list[InputLag]:
    """Places and ends alone: what the node will read, and which of its functions are left, can't be known."""
    datasets = [Dataset(each.kind, each.topic) for each in sorted(positions)]
    return [replace(each, lag=None) for each in _lags(datasets, positions, ends)]


def _lags(datasets: Iterable[Dataset], positions: dict[Partition, Position], ends: _Ends) -> Iterator[InputLag]:
    for dataset in dict.fromkeys(datasets):
        if dataset.kind is Kind.SOURCE:
            yield from _source_lags(dataset.name, positions, ends)
        else:
            yield from _table_lags(dataset.name, positions, ends)


def _source_lags(name: str, positions: dict[Partition, Position], ends: _Ends) -> Iterator[InputLag]:
    refused = ends.topics.refused.get(name) if ends.topics is not None else None
    if ends.topics is None or refused is not None:
        mine = {each.partition: each.next_offset for each in positions.values() if each.partition.topic == name}
        if not mine and refused is not None:
            mine = {Partition(name, 0): 0}
        yield from (InputLag(at, offset, offset, None, is_away=True, refused=refused) for at, offset in mine.items())
        return
    info = ends.topic(name)
    for index, end in enumerate(info.end_offsets if info is not None else (0,)):
        partition = Partition(name, index)
        position = positions.get(partition)
        if position is None:
            first = info.first_offsets[index] if info is not None else 0
            yield InputLag(partition, first, end, end - first)
        elif info is not None and position.topic_id and position.topic_id != info.topic_id:
            yield InputLag(partition, position.next_offset, end, None)
        else:
            yield InputLag(partition, position.next_offset, end, max(end - position.next_offset, 0))


def _table_lags(name: str, positions: dict[Partition, Position], ends: _Ends) -> Iterator[InputLag]:
    """What is left of the version that is read, and all of those that became active after it."""
    versions = ends.versions(name)
    mine = {partition.index: position for partition, position in positions.items() if partition == _at(name, partition)}
    newest = ends.of_version(name, versions[-1].version) if versions else []
    for index in range(max(len(newest), max(mine, default=0) + 1)):
        position = mine.get(index)
        at = position.version if position is not None else 0
        following = [each for each in versions if at == 0 or _after(each, at, versions)]
        lag = sum(_unread(ends, name, each, index, entered=at != 0) for each in following)
        if position is not None and at:
            end = _end(ends, name, at, index)
            yield InputLag(_at(name, index), position.next_offset, end, lag + max(end - position.next_offset, 0))
        else:
            yield InputLag(_at(name, index), 0, lag, lag)


def _at(name: str, place: Partition | int) -> Partition:
    return Partition(name, place.index if isinstance(place, Partition) else place, Kind.TABLE)


def _after(version: VersionInfo, at: int, versions: Sequence[VersionInfo]) -> bool:
    here = next((each.activation for each in versions if each.version == at), None)
    return here is not None and (version.activation or 0) > here


def _unread(ends: _Ends, table: str, version: VersionInfo, index: int, *, entered: bool) -> int:
    """What waits in a version that is read next. One that the engine made is read from where it was activated: who
    has `entered` the table has had the rest."""
    of_version = ends.of_version(table, version.version)
    if index >= len(of_version):
        return 0
    first = of_version[index].activated_at if entered and version.engine_made else 0
    return of_version[index].end_offset - first


def _end(ends: _Ends, table: str, version: int, index: int) -> int:
    of_version = ends.of_version(table, version)
    return of_version[index].end_offset if index < len(of_version) else 0
