"""The socket that the service listens on, bound before anything else is begun."""

from __future__ import annotations

import errno
import socket

from millstream.service.port_owner import find_port_owner
from streams.errors import LeaseHeld, UsageError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises LeaseHeld, naming who has the port; UsageError for an address that can't be had."""
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        return socket.create_server((name, port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise UsageError(f"host {host!r} is no address of this machine: {error.strerror}") from error
    except PermissionError as error:
        raise UsageError(f"port {port} may not be used by this user", hint="choose one above 1023") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise UsageError(f"{host}:{port} can't be listened on: {error.strerror}") from error
        owner = find_port_owner(port)
        who = f"process {owner.pid} ({owner.command})" if owner is not None else "another process"
        raise LeaseHeld(
            f"port {port} is used by {who}", hint="stop it, or choose another with --port (0 picks a free one)"
        ) from error


def url_of(listener: socket.socket, host: str, *, tls: bool = False) -> str:
    """Where a client on this machine finds it."""
    port = listener.getsockname()[1]
    name = "127.0.0.1" if host in {"0.0.0.0", ""} else "[::1]" if host == "::" else host
    return f"{'https' if tls else 'http'}://{name}:{port}"
