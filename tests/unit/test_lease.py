"""Who may take a lease, and who is dead: decisions without I/O."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from streams.ownership.holder import Holder, is_running, without_passwords
from streams.ownership.lease import GRACE_S, Lease, Sighting, is_dead, sight
from streams.ownership.ownership import fair_share, to_release, to_take

LEASE = Lease("agent:a", "w1", beat=7)


def test_a_lease_whose_beat_moves_is_seen_alive_on_the_observers_own_clock() -> None:
    seen = sight(None, LEASE, now_s=100.0)
    seen = sight(seen, LEASE, now_s=109.0)
    assert not is_dead(seen, now_s=109.0, lease_s=10, alive=True)
    seen = sight(seen, replace(LEASE, beat=8), now_s=109.5)
    assert not is_dead(seen, now_s=119.0, lease_s=10, alive=True)
    assert is_dead(seen, now_s=119.5, lease_s=10, alive=True)


@pytest.mark.parametrize(("alive", "silent_s", "dead"), [(None, GRACE_S - 0.1, False), (None, GRACE_S, True)])
def test_a_free_liveness_lock_is_believed_only_after_the_grace(alive: bool | None, silent_s: float, dead: bool) -> None:
    assert is_dead(Sighting(LEASE, 0.0), now_s=silent_s, lease_s=10, alive=alive) is dead


def test_a_process_known_to_be_gone_is_dead_at_once_and_a_free_lease_is_anybodys() -> None:
    assert is_dead(Sighting(LEASE, 0.0), now_s=0.0, lease_s=10, alive=False)
    assert is_dead(Sighting(replace(LEASE, holder=""), 0.0), now_s=0.0, lease_s=10, alive=True)


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = Holder.of_this_process("w1").lease("x", beat=1)
    assert me.pid == os.getpid()
    assert is_running(me) is True
    assert is_running(replace(me, started="1")) is False
    assert is_running(replace(me, host="elsewhere")) is None


def test_leases_are_taken_up_to_the_share_and_given_back_above_it() -> None:
    assert fair_share(5, 2) == 3
    assert fair_share(0, 0) == 0
    assert to_take("abcde", {"a"}, {"b", "c", "d"}, share=3) == ["b", "c"]
    assert to_release({"a", "b", "c"}, {"a", "b", "c", "z"}, share=2) == ["z", "c"]


def test_a_command_is_shown_without_the_passwords_of_its_urls() -> None:
    command = "millstream dev --store postgresql://me:se:cr@t@db/x --log kafka://a:1"
    assert without_passwords(command) == "millstream dev --store postgresql://me:***@db/x --log kafka://a:1"
    assert without_passwords("run --store=sqlite:///a.db") == "run --store=sqlite:///a.db"
