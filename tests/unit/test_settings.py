"""Settings: which source wins, what is refused and in which words, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.secrets import EnvironmentSecrets, SecretMissing
from millstream.safe_url import safe_url
from millstream.settings import Settings, SettingsError, find_project, is_loopback, load, resolve
from nodes.python.hosts import scrubbed

PROJECT = Path("/project")


def settings(
    text: str | None = None, environment: dict[str, str] | None = None, *, terminal: bool = False, **flags: object
) -> Settings:
    return resolve(flags=flags, environment=environment or {}, text=text, project_dir=PROJECT, on_terminal=terminal)


def test_the_defaults_are_those_of_the_table() -> None:
    found = settings()
    assert found.store == "sqlite:////project/.millstream/store.db"
    assert (found.schema, found.log, found.host, found.port) == (None, "store", "127.0.0.1", 8787)
    assert (found.admin_token, found.read_token, found.public_url) == (None, None, None)
    assert (found.allowed_hosts, found.trusted_proxies) == ((), ())
    assert (found.workers, found.node_hosts_max, found.lease_s) == (1, 8, 10)
    assert (found.checkpoint_records_max, found.checkpoint_interval_s, found.run_cut_s) == (10_000, 0.1, 10)
    assert found.log_format == "json"
    assert settings(terminal=True).log_format == "console"
    assert found.warnings == ()


def test_a_flag_wins_over_the_environment_which_wins_over_the_file() -> None:
    environment = {"MILLSTREAM_PORT": "2"}
    assert settings("port = 1").port == 1
    assert settings("port = 1", environment).port == 2
    found = settings("port = 1\nworkers = 3", environment, port=3, host=None)
    assert (found.port, found.workers, found.host) == (3, 3, "127.0.0.1")
    assert found.sources == {"port": "--port", "workers": "millstream.toml:2"}


def test_every_setting_can_be_given_in_each_way() -> None:
    text = """
store = "postgresql://u@h/db"
schema = "flights"
log = "store"
host = "::1"
port = 0
admin_token = "a"
read_token = "r"
allowed_hosts = ["x", "y"]
trusted_proxies = ["10.0.0.1"]
public_url = "https://example.org/"
tls_cert_file = "cert.pem"
tls_key_file = "/keys/key.pem"
workers = 2
node_hosts_max = 3
checkpoint_records_max = 100
checkpoint_interval_s = 1
run_cut_s = 2.5
lease_s = 5
log_format = "console"
"""
    from_file = settings(text)
    variables = {
        f"MILLSTREAM_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name in from_file.sources
        if (value := getattr(from_file, name)) is not None
    }
    from_environment = settings(environment=variables)
    for name in from_file.sources:
        assert getattr(from_environment, name) == getattr(from_file, name), name
    assert len(from_file.sources) == 19
    assert (from_file.tls_cert_file, from_file.tls_key_file) == (PROJECT / "cert.pem", Path("/keys/key.pem"))
    assert from_file.public_url == "https://example.org"


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        ({"text": "# a comment\nprot = 1"}, "millstream.toml:2: `prot` is no setting; did you mean `port`?"),
        ({"text": "[kafka]\nx = 1"}, "millstream.toml:1: `kafka` is no setting"),
        ({"text": 'port = "8787"'}, "millstream.toml:1: `port` must be a whole number, not '8787'"),
        ({"text": "port = 1.5"}, "`port` must be a whole number, not 1.5"),
        ({"text": "port = true"}, "`port` must be a whole number, not True"),
        ({"text": "host = 5"}, "millstream.toml:1: `host` must be text, not 5"),
        ({"text": 'host = ""'}, "`host` is empty"),
        ({"text": 'allowed_hosts = "x"'}, "`allowed_hosts` must be a list of texts"),
        ({"text": "port = "}, "millstream.toml: this is no TOML: "),
        ({"text": "port = 1\nport = 2"}, "millstream.toml: this is no TOML: "),
        ({"text": "lease_s = inf"}, "`lease_s` must be from 0.5 to 3600 seconds, not inf"),
        ({"text": 'tls_cert_file = "a"'}, "`tls_cert_file` and `tls_key_file` are given together"),
        ({"environment": {"MILLSTREAM_PORT": "http"}}, "MILLSTREAM_PORT: `port` must be a whole number, not 'http'"),
        ({"environment": {"MILLSTREAM_PORT": "70000"}}, "MILLSTREAM_PORT: `port` must be from 0 to 65535, not 70000"),
        ({"environment": {"MILLSTREAM_WORKERS": "0"}}, "`workers` must be from 1 to 1024, not 0"),
        ({"environment": {"MILLSTREAM_RUN_CUT_S": "nan"}}, "`run_cut_s` must be from 0.01 to 86400 seconds, not nan"),
        ({"environment": {"MILLSTREAM_LOG_FORMAT": "xml"}}, "`log_format` must be console or json, not 'xml'"),
        ({"environment": {"MILLSTREAM_SCHEMA": "Bad"}}, "`schema` must be lower-case letters"),
        ({"environment": {"MILLSTREAM_PUBLIC_URL": "example.org"}}, "`public_url` must be like https://example.org"),
        ({"flags": {"prot": 1}}, "--prot: `prot` is no setting; did you mean `port`?"),
        ({"flags": {"log": "kafka://"}}, "--log: `log` must be `store` or kafka://host:port"),
        (
            {"flags": {"log": "redis://x"}},
            "--log: `log` must be `store` or kafka://host:port[,host:port], not 'redis://x'",
        ),
        ({"flags": {"store": "mysql://u:hidden@h/d"}}, "`store` cannot be 'mysql://u:***@h/d'"),
        ({"flags": {"store": "data/store.db"}}, "`store` must be a URL"),
        ({"flags": {"store": "sqlite://store.db"}}, "`store` needs three slashes before its file: sqlite:///store.db"),
        ({"flags": {"store": "sqlite:///:memory:"}}, "a store in memory would lose its records"),
        ({"flags": {"store": "sqlite://"}}, "`store` needs three slashes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_source(given_as: dict[str, object], expected: str) -> None:
    arguments: dict[str, Any] = {"flags": {}, "environment": {}, "text": None, **given_as}
    with pytest.raises(SettingsError) as caught:
        resolve(project_dir=PROJECT, **arguments)
    assert expected in str(caught.value)


def test_an_unknown_variable_is_a_warning_and_reserved_ones_are_none() -> None:
    found = settings(
        environment={
            "MILLSTREAM_PROT": "1",
            "MILLSTREAM_PROJECT": "x",
            "MILLSTREAM_TEST_POSTGRES": "x",
            "MILLSTREAM_SECRET_KEY": "x",
            "MILLSTREAM_port": "2",
            "PATH": "x",
        }
    )
    assert found.warnings == (
        "MILLSTREAM_PROT: the environment variable is no setting; did you mean `MILLSTREAM_PORT`?",
        "MILLSTREAM_port: the environment variable is no setting; did you mean `MILLSTREAM_PORT`?",
    )
    assert found.port == 8787


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///a/b.db", "sqlite:////project/a/b.db"),
        ("sqlite:////abs/b.db", "sqlite:////abs/b.db"),
        ("sqlite:///b.db?timeout=3", "sqlite:////project/b.db?timeout=3"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_stores_are_made_absolute(url: str, expected: str) -> None:
    assert settings(store=url).store == expected


def test_serving_beyond_this_machine_needs_a_token() -> None:
    settings().check_exposure()
    settings(host="0.0.0.0", admin_token="t").check_exposure()
    with pytest.raises(SettingsError, match=r"^--host: 0\.0\.0\.0 can be reached from outside"):
        settings(host="0.0.0.0").check_exposure()
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "127.0.0.1.example.org", "10.0.0.1", ""))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5/d", "postgresql://u:***@h:5/d"),
        ("postgresql://u:p@ss/w:rd@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:p@h/d", "postgresql://:***@h/d"),
        ("postgresql://h/d?user=u&password=p&sslmode=require", "postgresql://h/d?user=u&password=***&sslmode=require"),
        ("kafka://h:9?sasl_plain_password=p&topic_prefix=x", "kafka://h:9?sasl_plain_password=***&topic_prefix=x"),
        ("sqlite:////a/store.db", "sqlite:////a/store.db"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("could not connect to postgresql://u:p@h/d now", "could not connect to postgresql://u:***@h/d now"),
    ],
)
def test_urls_are_shown_without_passwords(url: str, shown: str) -> None:
    assert safe_url(url) == shown


_password = st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Z"]), min_size=1, max_size=12)


@given(_password)
def test_no_password_is_shown_whatever_its_characters(password: str) -> None:
    assert safe_url(f"postgresql://u:{password}@host/db") == "postgresql://u:***@host/db"


def test_nothing_secret_is_in_a_repr_or_an_error() -> None:
    found = settings(store="postgresql://u:hidden@h/d", admin_token="hidden", read_token="hidden")
    assert "hidden" not in repr(found)
    assert found.safe_store == "postgresql://u:***@h/d"
    with pytest.raises(SettingsError) as caught:
        settings(admin_token="hidden\u00e9")
    assert "hidden" not in str(caught.value)


def test_the_project_is_the_nearest_directory_upward_with_a_graph(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(deep) == deep.resolve()
    (tmp_path / "graph.yml").write_text("")
    assert find_project(deep) == tmp_path.resolve()
    (tmp_path / "a" / "graph.yml").mkdir()
    assert find_project(deep) == tmp_path.resolve()


def test_the_file_is_read_from_the_project_and_may_be_absent(tmp_path: Path) -> None:
    assert load(flags={}, environment={}, project_dir=tmp_path).port == 8787
    (tmp_path / "millstream.toml").write_text("port = 9")
    assert load(flags={}, environment={}, project_dir=tmp_path).port == 9
    (tmp_path / "millstream.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(flags={}, environment={}, project_dir=tmp_path)


def test_secrets_come_from_the_environment_and_stay_out_of_errors() -> None:
    secrets = EnvironmentSecrets({"MILLSTREAM_SECRET_API_KEY": "hidden", "MILLSTREAM_SECRET_EMPTY": ""})
    assert secrets.get("api_key") == "hidden"
    assert secrets.found(("api_key", "empty", "absent")) == {"api_key": "hidden"}
    assert "hidden" not in repr(secrets)
    for name in ("empty", "absent"):
        with pytest.raises(SecretMissing) as caught:
            secrets.get(name)
        assert caught.value.hint == f"Set the environment variable MILLSTREAM_SECRET_{name.upper()}."


def test_a_node_sees_the_projects_slug_and_no_setting() -> None:
    given = {"MILLSTREAM_PROJECT": "shop", "MILLSTREAM_ADMIN_TOKEN": "x", "MILLSTREAM_SECRET_KEY": "x"}
    assert scrubbed(given) == {"MILLSTREAM_PROJECT": "shop"}
