"""Where Kafka is and how to speak to it, as `kafka://host:port[,host:port]?option=value` says."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from streams.errors import UsageError

PORT = 9092
PREFIX_CHARS_MAX = 180  # of the 249 that a topic's name may have, less `table.` and the 63 of a table's name
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OPTIONS = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "topic_prefix",
    "schema_registry",
)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`topic_prefix` begins the names of the project's own topics: those of its webhooks, and those that its tables are
    published to. `schema_registry` is a URL."""

    bootstrap: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_ca_file: str | None = None
    ssl_cert_file: str | None = None
    ssl_key_file: str | None = None
    topic_prefix: str = ""
    schema_registry: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> KafkaSettings:
        """Raises UsageError, which never shows a password."""
        place, _, query = url.removeprefix("kafka://").partition("?")
        login, at, hosts = place.rstrip("/").rpartition("@")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if at:
            username, _, password = login.partition(":")
            given = {"sasl_username": unquote(username), "sasl_password": unquote(password)} | given
        for name in given:
            if name not in OPTIONS:
                raise UsageError(f"`{name}` is no option of a Kafka log", hint=f"the options are: {', '.join(OPTIONS)}")
        protocol = given.get("security_protocol", "SASL_PLAINTEXT" if given.get("sasl_username") else "PLAINTEXT")
        given["security_protocol"] = _one_of("security_protocol", protocol, PROTOCOLS)
        if "sasl_mechanism" in given:
            _one_of("sasl_mechanism", given["sasl_mechanism"], MECHANISMS)
        prefix = given.get("topic_prefix", "")
        if not re.fullmatch(f"[A-Za-z0-9._-]{{0,{PREFIX_CHARS_MAX}}}", prefix):
            raise UsageError(
                f"`topic_prefix` of a Kafka log must be letters, digits, ., _ and -, at most {PREFIX_CHARS_MAX}, "
                f"not {prefix!r}"
            )
        return cls(tuple(_address(each) for each in hosts.split(",")), **given)

    def client_options(self) -> Mapping[str, Any]:
        """What every client of aiokafka is made with."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "client_id": "millstream",
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        return options

    @property
    def where(self) -> str:
        """The brokers' addresses, for messages."""
        return ",".join(self.bootstrap)

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file)
            if self.ssl_cert_file is not None:
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file)
        except OSError as error:
            raise UsageError(
                f"the certificates for Kafka cannot be read: {error}",
                hint="see `ssl_ca_file`, `ssl_cert_file` and `ssl_key_file` in the log's URL",
            ) from error
        return context


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value.upper() not in known:
        raise UsageError(f"`{name}` of a Kafka log must be one of {', '.join(known)}, not {value!r}")
    return value.upper()


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(PORT)
    if not host or not port.isdigit():
        raise UsageError(f"{text!r} is no address of a broker", hint="say kafka://host:9092")
    return f"{host}:{port}"
