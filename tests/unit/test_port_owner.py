"""Who has a port, read from a system's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.service.port_owner import PortOwner, find_port_owner

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENING = "   0: 0100007F:2253 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n"
CONNECTED = "   1: 0100007F:2254 0100007F:2253 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(HEADER + LISTENING + CONNECTED)
    for pid, inode in ((7, 4242), (8, 4243)):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"serve\0--store\0postgresql://me:hush@db/x\0")
    return tmp_path


def test_the_listener_is_named_without_its_password(proc: Path) -> None:
    assert find_port_owner(0x2253, proc=proc) == PortOwner(7, "serve --store postgresql://me:***@db/x")


def test_a_connection_is_not_a_listener(proc: Path) -> None:
    assert find_port_owner(0x2254, proc=proc) is None


def test_a_system_without_such_tables_names_nobody(tmp_path: Path) -> None:
    assert find_port_owner(1, proc=tmp_path) is None
