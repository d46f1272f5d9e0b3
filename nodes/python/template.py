"""The warm template: a small process with the heavy modules loaded, from which node hosts are forked in milliseconds.

Runs as `python -m nodes.python.template SERVICE_PID SOCKET_FD MODULE…` with an environment that holds no secret. For
each host the service sends one byte with two descriptors (the host's connection, its progress page); the template
answers with lines of JSON: {"started": pid}, {"exited": pid, "status": wait_status}. It ends when the socket does, and
its hosts with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable

from nodes.python.process import die_with_parent

FORK = b"F"


class Template:
    """Forks a host for each request until the service closes its end."""

    def __init__(self, service: socket.socket, host: Callable[[int, int], None]) -> None:
        self._service = service
        self._host = host
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(service, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._own = (self._wake_read, wake_write, self._selector.fileno())

    def serve(self, *, timeout_s: float | None = None) -> bool:
        """Do what is asked now, after waiting for it at most so long; False when the service has closed its end."""
        ready = {key.fileobj for key, _ in self._selector.select(timeout_s)}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
            _reap(self._service)
        if self._service not in ready:
            return True
        request, descriptors, _, _ = socket.recv_fds(self._service, 1, 2)
        if request != FORK:
            return False
        _fork(self._service, descriptors, self._host, own=self._own)
        return True


def _fork(
    service: socket.socket, descriptors: list[int], host: Callable[[int, int], None], *, own: tuple[int, ...]
) -> None:
    template = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        die_with_parent(template)
        service.close()
        for descriptor in own:
            os.close(descriptor)
        host(*descriptors)
        os._exit(0)
    for descriptor in descriptors:
        os.close(descriptor)
    _tell(service, {"started": pid})


def _reap(service: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(service, {"exited": pid, "status": status})


def _tell(service: socket.socket, message: dict[str, int]) -> None:
    service.sendall(json.dumps(message).encode() + b"\n")


def main() -> None:
    """The template's whole life. A host that is asked for while modules are still loaded is forked between two."""
    die_with_parent(int(sys.argv[1]))
    from nodes.python.host import main as host

    template = Template(socket.socket(fileno=int(sys.argv[2])), host)
    going_on = True
    for module in sys.argv[3:]:
        going_on = going_on and template.serve(timeout_s=0)
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is loaded now is never looked at again, so that its pages stay shared
    while going_on:
        going_on = template.serve()


if __name__ == "__main__":
    main()
