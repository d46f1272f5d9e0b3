"""Locks between processes, on a file that a process opens once.

fcntl record locks belong to the process: a child forked by a user's node holds none of them, and two opens in one
process would not conflict, so each process keeps one `LockFile` a path, with mutexes for its own threads.

The write lock is a turnstile of two bytes. Whoever wants it first takes the queue's byte, then the lock's byte, then
leaves the queue. One that lets the lock go and wants it again finds the queue taken by whoever waits, so nobody is
starved. Liveness locks are single bytes far behind, at a place that the holder's name gives.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path

from streams.errors import StoreRefused, StoreUnavailable

_QUEUE, _LOCK = 4_096, 4_097  # places of the bytes; the file's text, which names the holder, lies before them
_LIVENESS = 1 << 32
_HOLDER_BYTES = 32
_PAUSES_S = (0.0001, 0.0002, 0.0005, 0.001)
_PROBE_S = 1.0  # how long taking a liveness lock may be disturbed by those who only look


class LockFile:
    """The locks of one store file in this process. Use `lock_file` to get it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._queue, self._held = threading.Lock(), threading.Lock()
        self._thread: int | None = None
        self._liveness: dict[str, int] = {}  # how many stores of this process hold it
        self._liveness_mutex = threading.Lock()

    def acquire(self, timeout_s: float) -> None:
        """Take the write lock. Raises StoreUnavailable, naming the holder, when it does not come in time."""
        if self._thread == threading.get_ident():
            raise AssertionError("a transaction that writes was opened within another of the same thread")
        deadline = time.monotonic() + timeout_s
        if not self._queue.acquire(timeout=timeout_s):
            raise self._busy(timeout_s)
        try:
            if not self._held.acquire(timeout=max(deadline - time.monotonic(), 0)):
                raise self._busy(timeout_s)
            try:
                self._acquire_bytes(deadline, timeout_s)
                self._thread = threading.get_ident()
            except BaseException:
                self._held.release()
                raise
        finally:
            self._queue.release()

    def _acquire_bytes(self, deadline: float, timeout_s: float) -> None:
        self._wait_byte(_QUEUE, deadline, timeout_s)
        try:
            self._wait_byte(_LOCK, deadline, timeout_s)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _QUEUE)
        os.pwrite(self._fd, str(os.getpid()).encode().ljust(_HOLDER_BYTES), 0)

    def _wait_byte(self, place: int, deadline: float, timeout_s: float) -> None:
        tries = 0
        while not self._try_byte(place):
            if time.monotonic() >= deadline:
                raise self._busy(timeout_s)
            time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1

    def _try_byte(self, place: int, *, shared: bool = False) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.lockf(self._fd, kind | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self) -> None:
        """Let the write lock go."""
        self._thread = None
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _LOCK)
        self._held.release()

    def holder_pid(self) -> int | None:
        """Who took the write lock last."""
        text = os.pread(self._fd, _HOLDER_BYTES, 0).strip()
        return int(text) if text.isdigit() else None

    def _busy(self, timeout_s: float) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.path.with_suffix('')} was locked for {timeout_s:g} s by process {self.holder_pid() or 'unknown'}",
            hint="it is tried again; if that process hangs or is stopped, end it",
        )

    def hold_liveness(self, holder: str) -> None:
        """Take this holder's liveness lock. Raises StoreRefused where another process has it."""
        with self._liveness_mutex:
            if not self._liveness.get(holder):
                self._take_liveness(holder)
            self._liveness[holder] = self._liveness.get(holder, 0) + 1

    def _take_liveness(self, holder: str) -> None:
        deadline = time.monotonic() + _PROBE_S
        while not self._try_byte(_liveness_place(holder)):
            if time.monotonic() >= deadline:
                raise StoreRefused(f"another process is holder {holder!r}", hint="give each worker a name of its own")
            time.sleep(_PAUSES_S[-1])

    def release_liveness(self, holder: str) -> None:
        """Give back what one store of this process took."""
        with self._liveness_mutex:
            self._liveness[holder] = self._liveness.get(holder, 0) - 1
            if self._liveness[holder] <= 0:
                del self._liveness[holder]
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _liveness_place(holder))

    def holds_liveness(self, holder: str) -> bool:
        """Whether any process holds it."""
        with self._liveness_mutex:
            if self._liveness.get(holder):
                return True
            place = _liveness_place(holder)
            if not self._try_byte(place, shared=True):
                return True
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)
            return False

    def forget_after_fork(self) -> None:
        """In a child: its parent's locks are not its own, and its parent's threads are not there."""
        self._queue, self._held, self._thread = threading.Lock(), threading.Lock(), None
        self._liveness = {}
        self._liveness_mutex = threading.Lock()


def _liveness_place(holder: str) -> int:
    return _LIVENESS + int.from_bytes(hashlib.sha256(holder.encode()).digest()[:7], "big") % (1 << 61)


_files: dict[str, LockFile] = {}  # never closed: closing any descriptor of a file drops all its locks of the process
_files_mutex = threading.Lock()


def lock_file(path: Path) -> LockFile:
    """This process's lock file at a path, opened at the first call and kept."""
    global _files_mutex  # noqa: PLW0602 - replaced in a forked child
    with _files_mutex:
        name = os.path.realpath(path)
        held = _files.get(name)
        if held is not None and _is_at(held, name):
            return held
        _files[name] = made = LockFile(Path(name))
        return made


def _is_at(held: LockFile, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        there, ours = Path(name).stat(), os.fstat(held._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
    return False


def _after_fork() -> None:
    global _files_mutex  # noqa: PLW0603 - a lock held by a thread that does not exist here
    _files_mutex = threading.Lock()
    for held in _files.values():
        held.forget_after_fork()


os.register_at_fork(after_in_child=_after_fork)
