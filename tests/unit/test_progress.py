"""What a host writes into the page that it shares, its service reads, also when the host is gone."""

from __future__ import annotations

import os

from nodes.python.progress import Progress, shared_file
from streams.checkpoint.tally import Tallies, Tally


def test_what_a_hosts_checkpoints_came_to_outlives_it() -> None:
    descriptor = shared_file()
    host, service = Progress(descriptor), Progress(descriptor)
    os.close(descriptor)
    tallies = Tallies()
    tallies.tell(host.count)
    host.enter()
    host.hand.give(7, 12)
    assert service.tally == Tally()
    tallies.count("one", Tally(checkpoints=1, seconds=0.25, records=10, rows=9, dead_letters=1))
    tallies.count("two", Tally(fenced=1))
    host.leave()
    calls = host.calls
    host.close()
    assert service.tally == Tally(checkpoints=1, seconds=0.25, records=10, rows=9, dead_letters=1, fenced=1)
    assert service.calls == calls == 1
    service.close()
