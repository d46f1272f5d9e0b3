"""The store in memory: builds and positions, state, leases and facts about the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from streams.errors import StoreUnavailable, UsageError
from streams.model.position import Build, Owner, Position
from streams.model.seen_id import SeenId, SeenKey
from streams.ownership.lease import Lease
from streams.testing.memory_pages import Pages


class MemoryAgents:
    """`streams.store.Agents` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def owner(self, build: Build) -> Owner | None:
        owner: Owner | None = self._pages.look("owners").get(build)
        return owner

    def live_build(self, agent: str) -> Build | None:
        return next((owner.build for owner in self.builds() if owner.build.agent == agent and owner.live), None)

    def builds(self) -> list[Owner]:
        owners = self._pages.look("owners")
        return [owners[build] for build in sorted(owners)]

    def make_build(self, build: Build, *, live: bool, writes: Sequence[str]) -> None:
        if build not in self._pages.look("owners"):
            self._pages.change("owners")[build] = Owner(build, 0, 0, live=live, writes=tuple(writes))

    def set_live(self, build: Build) -> None:
        owners = self._pages.change("owners")
        for other in [each for each in owners if each.agent == build.agent]:
            owners[other] = replace(owners[other], live=other == build)

    def claim(self, build: Build) -> Owner:
        owner = self._known(build)
        return self._save(replace(owner, epoch=owner.epoch + 1))

    def swap(self, build: Build, *, epoch: int, checkpoint_number: int) -> bool:
        owner = self.owner(build)
        if owner is None or (owner.epoch, owner.checkpoint_number) != (epoch, checkpoint_number):
            return False
        self._save(replace(owner, checkpoint_number=checkpoint_number + 1))
        return True

    def positions(self, build: Build) -> list[Position]:
        positions = self._pages.look("positions", build)
        return [positions[partition] for partition in sorted(positions)]

    def claim_position(self, build: Build, start: Position) -> Position:
        stands: Position | None = self._pages.look("positions", build).get(start.partition)
        claimed = replace(start, epoch=1) if stands is None else replace(stands, epoch=stands.epoch + 1)
        self._pages.change("positions", build)[start.partition] = claimed
        return claimed

    def swap_position(self, build: Build, old: Position, new: Position) -> bool:
        stands: Position | None = self._pages.look("positions", build).get(old.partition)
        if stands is None or _guard(stands) != _guard(old):
            return False
        self._pages.change("positions", build)[old.partition] = new
        return True

    def set_position(self, build: Build, position: Position) -> None:
        self._pages.change("positions", build)[position.partition] = position

    def next_segment(self, build: Build) -> int:
        owner = self._known(build)
        return self._save(replace(owner, segment=owner.segment + 1)).segment

    def forget_positions(self, build: Build) -> None:
        self.next_segment(build)
        self._pages.change("positions", build).clear()

    def restore(self, owner: Owner) -> None:
        self._save(owner)

    def rename(self, old: str, new: str) -> None:
        owners = self._pages.change("owners")
        for build in [each for each in owners if each.agent == old]:
            renamed = replace(build, agent=new)
            owners[renamed] = replace(owners.pop(build), build=renamed)
            for kind in ("positions", "states"):
                page = self._pages.change(kind, build)
                self._pages.change(kind, renamed).update(page)
                page.clear()
        for kind in ("ledger", "dead_letters"):
            page = self._pages.change(kind)
            for key, kept in page.items():
                if kept.build.agent == old:
                    page[key] = replace(kept, build=replace(kept.build, agent=new))
        runs = self._pages.change("runs")
        for key, run in runs.items():
            if run.node == old:
                runs[key] = replace(run, node=new)

    def _known(self, build: Build) -> Owner:
        owner = self.owner(build)
        if owner is None:
            raise UsageError(f"build {build} does not exist", hint="make it before it is claimed")
        return owner

    def _save(self, owner: Owner) -> Owner:
        self._pages.change("owners")[owner.build] = owner
        return owner


def _guard(position: Position) -> tuple[int, int, int]:
    return position.epoch, position.version, position.next_offset


class MemoryStates:
    """`streams.store.States` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def read(self, build: Build) -> dict[str, bytes]:
        return dict(self._pages.look("states", build))

    def write(self, build: Build, changes: Mapping[str, bytes | None]) -> None:
        page = self._pages.change("states", build)
        for key, value in changes.items():
            if value is None:
                page.pop(key, None)
            else:
                page[key] = value


class MemorySeenIds:
    """`streams.store.SeenIds` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def known(self, build: Build, keys: Collection[SeenKey]) -> dict[SeenKey, SeenId]:
        page = self._pages.look("seen", build)
        return {key: page[key] for key in keys if key in page}

    def insert(self, build: Build, ids: Sequence[SeenId]) -> None:
        page = self._pages.change("seen", build)
        for seen in ids:
            if seen.key in page:
                raise StoreUnavailable(f"the id {seen.key.request_id!r} was seen meanwhile", hint="it is tried again")
            page[seen.key] = seen

    def all(self, build: Build) -> list[SeenId]:
        page = self._pages.look("seen", build)
        return [page[key] for key in sorted(page)]

    def forget(self, agent: str, before: datetime) -> int:
        count = 0
        for name in self._pages.names("seen"):
            old = [key for key, seen in self._pages.look(*name).items() if seen.timestamp < before]
            if old and isinstance(name[1], Build) and name[1].agent == agent:
                page = self._pages.change(*name)
                for key in old:
                    del page[key]
                count += len(old)
        return count


class MemoryLeases:
    """`streams.store.Leases` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def get(self, name: str) -> Lease | None:
        lease: Lease | None = self._pages.look("leases").get(name)
        return lease

    def all(self) -> list[Lease]:
        leases = self._pages.look("leases")
        return [leases[name] for name in sorted(leases)]

    def swap(self, old: Lease | None, new: Lease) -> bool:
        stands = self.get(new.name)
        if (stands is None) != (old is None):
            return False
        if stands is not None and old is not None and (stands.holder, stands.beat) != (old.holder, old.beat):
            return False
        self._pages.change("leases")[new.name] = new
        return True

    def beat(self, holder: str) -> int:
        mine = [lease for lease in self.all() if lease.holder == holder]
        for lease in mine:
            self._pages.change("leases")[lease.name] = replace(lease, beat=lease.beat + 1)
        return len(mine)

    def release(self, name: str, holder: str) -> None:
        lease = self.get(name)
        if lease is not None and lease.holder == holder:
            self._pages.change("leases")[name] = replace(lease, holder="", beat=lease.beat + 1)


class MemoryMeta:
    """`streams.store.Meta` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def get(self, key: str) -> str | None:
        value: str | None = self._pages.look("meta").get(key)
        return value

    def put(self, key: str, value: str | None) -> None:
        page = self._pages.change("meta")
        if value is None:
            page.pop(key, None)
        else:
            page[key] = value

    def all(self, prefix: str) -> dict[str, str]:
        page = self._pages.look("meta")
        return {key: page[key] for key in sorted(page) if key.startswith(prefix)}
