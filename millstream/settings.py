"""Settings: a flag wins over the environment, which wins over millstream.toml, which wins over the default.

`resolve` is pure: it is handed what flags, environment and file say. `load` finds the project and reads the file.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from millstream.safe_url import safe_url
from nodes.graph.problem import did_you_mean
from streams.errors import UsageError

SETTINGS_FILE = "millstream.toml"
PROJECT_FILE = "graph.yml"
ENVIRONMENT_PREFIX = "MILLSTREAM_"
PROJECT_VARIABLE = "MILLSTREAM_PROJECT"  # set for every node: the project's slug
RESERVED_PREFIXES = ("MILLSTREAM_TEST_", "MILLSTREAM_SECRET_")


class SettingsError(UsageError):
    """A setting that is unknown or wrong. `source` says where it stands: a flag, a variable, or a file and line."""

    code = "settings"

    def __init__(self, source: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{source}: {problem}", hint=hint)
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked. Intervals in seconds. URLs and tokens are left out of the repr.

    `store` is a SQLAlchemy URL; a SQLite file in it is absolute. `schema` is None where the project's slug is meant.
    `sources` says for each setting that is not a default where it was set.
    """

    project_dir: Path
    store: str = field(repr=False)
    schema: str | None = None
    log: str = field(default="store", repr=False)
    host: str = "127.0.0.1"
    port: int = 8787
    admin_token: str | None = field(default=None, repr=False)
    read_token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    public_url: str | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    workers: int = 1
    node_hosts_max: int = 8
    checkpoint_records_max: int = 10_000
    checkpoint_interval_s: float = 0.1
    run_cut_s: float = 10.0
    lease_s: float = 10.0
    faust_app: str | None = None
    faust_web_port: int | None = None
    log_format: Literal["console", "json"] = "json"
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def safe_store(self) -> str:
        """The store's URL without its password, for logs, errors and `status`."""
        return safe_url(self.store)

    @property
    def shared_store(self) -> bool:
        """Whether several services may work on the store at once."""
        return not self.store.startswith("sqlite")

    @property
    def safe_log(self) -> str:
        return safe_url(self.log)

    @property
    def state_dir(self) -> Path:
        """Where what belongs to this machine is kept; never committed."""
        return self.project_dir / ".millstream"

    def check_exposure(self) -> None:
        """Raise SettingsError where serving would open the API to a network without a token."""
        if not is_loopback(self.host) and self.admin_token is None:
            hint = f"Set {ENVIRONMENT_PREFIX}ADMIN_TOKEN, or `host` to 127.0.0.1."
            problem = f"{self.host} can be reached from outside, and no `admin_token` is set"
            raise SettingsError(self.sources.get("host", "host"), problem, hint=hint)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    return host in ("localhost", "::1", "[::1]") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def find_project(start: Path) -> Path:
    """The nearest directory upward from `start` that holds graph.yml; without one, `start`. Absolute."""
    here = start.resolve()
    for directory in (here, *here.parents):
        if (directory / PROJECT_FILE).is_file():
            return directory
    return here


def load(
    *, flags: Mapping[str, object], environment: Mapping[str, str], project_dir: Path, on_terminal: bool = False
) -> Settings:
    """The settings of a project. Flags that are None count as not given. Raises SettingsError."""
    path = project_dir / SETTINGS_FILE
    try:
        text: str | None = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(SETTINGS_FILE, f"the file cannot be read: {error}") from error
    return resolve(flags=flags, environment=environment, text=text, project_dir=project_dir, on_terminal=on_terminal)


def resolve(
    *,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    text: str | None,
    project_dir: Path,
    on_terminal: bool = False,
) -> Settings:
    """The settings that these make together; `text` is that of millstream.toml. Raises SettingsError."""
    given: dict[str, _Given] = {}
    warnings: list[str] = []
    for layer in (_from_file(text), _from_environment(environment, warnings), _from_flags(flags)):
        given.update({item.name: item for item in layer})
    values = {name: _READERS[name](item) for name, item in given.items()}
    store = given.get("store", _Given("store", "sqlite:///.millstream/store.db", "default"))
    values["store"] = _store(store, project_dir)
    for name in ("tls_cert_file", "tls_key_file"):
        if name in values:
            values[name] = project_dir / values[name]
    if ("tls_cert_file" in values) != ("tls_key_file" in values):
        one = "tls_cert_file" if "tls_cert_file" in values else "tls_key_file"
        raise SettingsError(given[one].source, "`tls_cert_file` and `tls_key_file` are given together or not at all")
    values.setdefault("log_format", "console" if on_terminal else "json")
    sources = {name: item.source for name, item in given.items()}
    return Settings(project_dir=project_dir, sources=sources, warnings=tuple(warnings), **values)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given. `typed`: its type is the giver's own, as in TOML; else it is text."""

    name: str
    value: object = field(repr=False)
    source: str
    typed: bool = False

    def wrong(self, problem: str, *, hint: str = "") -> SettingsError:
        return SettingsError(self.source, problem, hint=hint)


def _from_file(text: str | None) -> Iterator[_Given]:
    if text is None:
        return
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            SETTINGS_FILE, f"this is no TOML: {error}", hint="Write lines like `port = 8787`."
        ) from error
    for name, value in content.items():
        source = f"{SETTINGS_FILE}:{_line_of(name, text)}"
        if name not in _READERS:
            raise SettingsError(source, f"`{name}` is no setting{did_you_mean(name, _READERS)}", hint=_known())
        yield _Given(name, value, source, typed=True)


def _line_of(name: str, text: str) -> int:
    """tomllib keeps no places; a key or table header begins its line."""
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(name)}[\"']?[ \t]*[.=\]]", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _from_environment(environment: Mapping[str, str], warnings: list[str]) -> Iterator[_Given]:
    for variable, value in sorted(environment.items()):
        reserved = variable == PROJECT_VARIABLE or variable.startswith(RESERVED_PREFIXES)
        if reserved or not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in _READERS and variable == f"{ENVIRONMENT_PREFIX}{name.upper()}":
            yield _Given(name, value, variable)
        else:
            known = [f"{ENVIRONMENT_PREFIX}{known.upper()}" for known in _READERS]
            warnings.append(f"{variable}: the environment variable is no setting{did_you_mean(variable, known)}")


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, value in flags.items():
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if name not in _READERS:
            raise SettingsError(flag, f"`{name}` is no setting{did_you_mean(name, _READERS)}", hint=_known())
        yield _Given(name, value, flag, typed=not isinstance(value, str))


def _known() -> str:
    return f"Settings: {', '.join(_READERS)}."


def _text(given: _Given) -> str:
    if not isinstance(given.value, str):
        raise given.wrong(f"`{given.name}` must be text, not {given.value!r}", hint="Put it in quotes.")
    if not given.value.strip():
        raise given.wrong(f"`{given.name}` is empty", hint="Give it a value, or remove it.")
    return given.value.strip()


def _whole(least: int, most: int) -> Callable[[_Given], int]:
    def read(given: _Given) -> int:
        number = _number(given, int)
        if not least <= number <= most:
            raise given.wrong(f"`{given.name}` must be from {least} to {most}, not {number}")
        return int(number)

    return read


def _seconds(least: float, most: float) -> Callable[[_Given], float]:
    def read(given: _Given) -> float:
        number = float(_number(given, float))
        if not math.isfinite(number) or not least <= number <= most:
            raise given.wrong(f"`{given.name}` must be from {least:g} to {most:g} seconds, not {number:g}")
        return number

    return read


def _number(given: _Given, form: type[int] | type[float]) -> float:
    kind = "a whole number" if form is int else "a number of seconds"
    value = given.value
    if isinstance(value, str) and not given.typed:
        try:
            return form(value.strip())
        except ValueError:
            raise given.wrong(f"`{given.name}` must be {kind}, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int if form is int else int | float):
        hint = f"Write {given.name} = {value}, without quotes." if isinstance(value, str) else ""
        raise given.wrong(f"`{given.name}` must be {kind}, not {value!r}", hint=hint)
    return value


def _texts(given: _Given) -> tuple[str, ...]:
    """A list in the file; in a variable or a flag, parted by commas."""
    value = given.value
    if isinstance(value, str) and not given.typed:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise given.wrong(f'`{given.name}` must be a list of texts, as in {given.name} = ["a", "b"]')


def _path(given: _Given) -> Path:
    return given.value if isinstance(given.value, Path) else Path(_text(given)).expanduser()


def _log_format(given: _Given) -> str:
    value = _text(given)
    if value not in ("console", "json"):
        raise given.wrong(f"`log_format` must be console or json, not {value!r}")
    return value


def _token(given: _Given) -> str:
    if not isinstance(given.value, str) or not given.value.strip() or not given.value.isascii():
        raise given.wrong(f"`{given.name}` must be ASCII text that is not empty")
    return given.value.strip()


def _schema(given: _Given) -> str:
    value = _text(given)
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,51}", value) or value.startswith("pg_"):
        problem = (
            f"`schema` must be lower-case letters, digits and _, at most 52, not beginning with pg_, not {value!r}"
        )
        raise given.wrong(problem)
    return value


def _public_url(given: _Given) -> str:
    value = _text(given)
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", value):
        raise given.wrong(f"`public_url` must be like https://example.org, not {safe_url(value)!r}")
    return value.rstrip("/")


def _log(given: _Given) -> str:
    value = _text(given)
    if value != "store" and not re.fullmatch(r"kafka://[^\s/]+(/?\?\S*)?", value):
        raise given.wrong(
            f"`log` must be `store` or kafka://host:port[,host:port], not {safe_url(value)!r}",
            hint="Leave it out to keep the records in the store.",
        )
    return value


def _faust_app(given: _Given) -> str:
    value = _text(given)
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise given.wrong(f"`faust_app` must be module:app, not {value!r}", hint="As in prices:app, for prices.py.")
    return value


def _store(given: _Given, project_dir: Path) -> str:
    url = _text(given)
    scheme, separator, rest = url.partition("://")
    if not separator:
        hint = f"For a file write sqlite:///{url}." if "/" in url or url.endswith(".db") else ""
        raise given.wrong(f"`store` must be a URL, not {safe_url(url)!r}", hint=hint)
    if scheme == "sqlite":
        return _sqlite(given, rest, project_dir)
    if scheme == "postgres":
        return f"postgresql://{rest}"
    if scheme in ("postgresql", "postgresql+psycopg"):
        return url
    hint = "Write sqlite:///path/to/store.db or postgresql://user:password@host/database."
    raise given.wrong(f"`store` cannot be {safe_url(url)!r}: only SQLite and PostgreSQL are known", hint=hint)


def _sqlite(given: _Given, rest: str, project_dir: Path) -> str:
    """SQLAlchemy's form: three slashes and a relative path, or four and an absolute one."""
    path, question, options = rest.partition("?")
    if not path.startswith("/"):
        raise given.wrong(f"`store` needs three slashes before its file: sqlite:///{path or 'store.db'}")
    name = path[1:]
    if name in ("", ":memory:"):
        raise given.wrong(
            "a store in memory would lose its records", hint="Name a file: sqlite:///.millstream/store.db"
        )
    return f"sqlite:///{project_dir / name}{question}{options}"


_READERS: Mapping[str, Callable[[_Given], Any]] = {
    "store": _text,
    "schema": _schema,
    "log": _log,
    "host": _text,
    "port": _whole(0, 65_535),
    "admin_token": _token,
    "read_token": _token,
    "allowed_hosts": _texts,
    "trusted_proxies": _texts,
    "public_url": _public_url,
    "tls_cert_file": _path,
    "tls_key_file": _path,
    "workers": _whole(1, 1024),
    "node_hosts_max": _whole(1, 1024),
    "checkpoint_records_max": _whole(1, 10_000_000),
    "checkpoint_interval_s": _seconds(0, 3600),
    "run_cut_s": _seconds(0.01, 86_400),
    "lease_s": _seconds(0.5, 3600),
    "faust_app": _faust_app,
    "faust_web_port": _whole(1, 65_535),
    "log_format": _log_format,
}
