"""What docs/how-to/kafka.md shows is what the code takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from connectors.kafka.settings import MECHANISMS, OPTIONS, PROTOCOLS, KafkaSettings
from millstream.settings import resolve
from nodes.graph.file import parse_graph_file

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "kafka.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_accepted() -> None:
    text = block("toml")
    settings = resolve(flags={}, environment={}, text=text, project_dir=Path("/project"))
    assert settings.log == tomllib.loads(text)["log"]
    assert KafkaSettings.of(settings.log).bootstrap == ("127.0.0.1:9092",)


def test_the_graph_is_accepted() -> None:
    file = parse_graph_file(block("yaml"), directory_name="shop")
    assert file.problems == ()
    assert file.kafka[0].entry is not None
    assert file.kafka[0].entry.called == "orders"


def test_every_option_is_named_and_the_example_is_accepted() -> None:
    for word in {*OPTIONS} | {*MECHANISMS} | {*PROTOCOLS}:
        assert f"`{word}`" in PAGE, word
    (url,) = re.findall(r"`(kafka://host1[^`]*)`", PAGE)
    parsed = KafkaSettings.of(url.replace("&ssl_ca_file=ca.pem", ""))
    assert (parsed.bootstrap, parsed.sasl_username) == (("host1:9093", "host2:9093"), "shop")
