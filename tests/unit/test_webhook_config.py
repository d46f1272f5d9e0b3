"""A webhook as graph.yml gives it: what is taken, and that each fault is named with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.webhook.config import open_webhook, read_settings
from streams.errors import UsageError


def test_an_entry_becomes_a_running_webhook() -> None:
    settings = read_settings(
        {
            "webhook": "leads",
            "auth": {"scheme": "hmac", "secret": ["${{ new }}", "${{ old }}"], "header": "X-S"},
            "dedup": {"header": "X-Id"},
            "dedup_window_days": 3,
            "limits": {"body_bytes": 1000, "depth": 8},
            "key": "country",
            "partitions": 4,
            "status": 202,
        }
    )
    assert (settings.name, settings.dedup_window_days, settings.partitions) == ("leads", 3, 4)
    assert settings.secrets == ("${{ new }}", "${{ old }}")
    revealed: list[str] = []

    def reveal(secret: str) -> str:
        revealed.append(secret)
        return "key"

    webhook = open_webhook(settings, reveal=reveal)
    assert revealed == ["${{ new }}", "${{ old }}"]
    assert (webhook.limits.body_bytes, webhook.limits.depth, webhook.status) == (1000, 8, 202)
    assert {"x-id", "x-s"} < webhook.single_headers


@pytest.mark.parametrize("auth", ["none", {"scheme": "none"}])
def test_no_signature_is_said_aloud_and_is_not_the_same_as_saying_nothing(auth: object) -> None:
    assert read_settings({"name": "leads", "auth": auth}).auth == {"scheme": "none"}
    assert read_settings({"name": "leads"}).auth is None


def test_unchecked_timestamps_are_known_so_that_start_can_warn() -> None:
    auth = {"scheme": "standard", "secret": "x"}
    assert read_settings({"name": "a", "auth": {**auth, "tolerance_s": 0}}).timestamps_unchecked
    assert not read_settings({"name": "a", "auth": auth}).timestamps_unchecked


@pytest.mark.parametrize(
    ("entry", "tells"),
    [
        ({}, "name"),
        ({"name": "Leads"}, "'Leads' is not a name"),
        ({"name": "a" * 64}, "is not a name"),
        ({"name": "../x"}, "is not a name"),
        ({"name": "a", "limts": {}}, "limts: unknown key; did you mean 'limits'?"),
        ({"name": "a", "limits": {"rate_per_s": 5}}, "limits.rate_per_s: not available yet"),
        ({"name": "a", "shape": "envelope"}, "shape: not available yet"),
        ({"name": "a", "limits": {"depth": 201}}, "limits.depth"),
        ({"name": "a", "limits": {"body_bytes": 0}}, "limits.body_bytes"),
        ({"name": "a", "dedup": {}}, "either header or field"),
        ({"name": "a", "dedup": {"header": "x", "field": "y"}}, "either header or field"),
        ({"name": "a", "dedup_window_days": 0}, "dedup_window_days"),
        ({"name": "a", "status": 500}, "200, 201, 202 or 204"),
        ({"name": "a", "partitions": 0}, "partitions"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_key(entry: dict[str, Any], tells: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(entry)
    assert tells in str(caught.value)


def test_a_fault_never_shows_a_secret() -> None:
    with pytest.raises(UsageError) as caught:
        read_settings({"name": "a", "auth": {"scheme": "hmac", "secret": "hush"}, "key": ""})
    assert "hush" not in str(caught.value)
    settings = read_settings({"name": "a", "auth": {"scheme": "hmac", "secret": "hush", "encoding": "x"}})
    with pytest.raises(UsageError) as caught:
        open_webhook(settings, reveal=lambda secret: secret)
    assert "hush" not in str(caught.value)
