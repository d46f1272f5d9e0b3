"""Who may call the API: by the Host that was asked for, the page that asks, and a bearer token."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from millstream.settings import Settings, is_loopback

READING = frozenset({"GET", "HEAD"})


def check_access(request: Request, settings: Settings) -> None:
    """Raises HTTPException 400 (a Host that is not ours), 401 or 403."""
    _check_host(request, settings)
    _check_origin(request)
    _check_token(request, settings)


def _check_host(request: Request, settings: Settings) -> None:
    """A page elsewhere may give its own name our address: only names that are ours are answered."""
    host = _name(request.headers.get("host", ""))
    if settings.allowed_hosts:
        allowed = host in {_name(each) for each in settings.allowed_hosts} or "*" in settings.allowed_hosts
    else:
        public = urlsplit(settings.public_url).hostname if settings.public_url else None
        allowed = not is_loopback(settings.host) or is_loopback(host) or host in (settings.host.lower(), public)
    if not allowed:
        raise HTTPException(400, f"the Host {host!r} is not one of `allowed_hosts`")


def _name(host: str) -> str:
    """The name without the port."""
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _check_origin(request: Request) -> None:
    """A browser says from which page an order comes: only our own page may give one."""
    origin = request.headers.get("origin")
    if request.method not in READING and origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"a page of {origin[:200]} may not give orders here")


def _check_token(request: Request, settings: Settings) -> None:
    admin, read = settings.admin_token, settings.read_token
    if admin is None and read is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    token = given.strip() if scheme.lower() == "bearer" else ""
    if admin is not None and _same(token, admin):
        return
    if read is not None and _same(token, read):
        if request.method in READING:
            return
        raise HTTPException(403, "this token can only read; orders need the `admin_token`")
    raise HTTPException(401, "give a token: `Authorization: Bearer …`", headers={"www-authenticate": "Bearer"})


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
