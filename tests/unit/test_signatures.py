"""Signature schemes: the vectors that are published, rotation, tolerance, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.signatures.registry import SCHEMES, open_scheme
from connectors.signatures.scheme import IdMalformed, Scheme, SignatureRefused
from streams.errors import UsageError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SENT_AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(SENT_AT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
GITHUB_SECRET, GITHUB_BODY = "It's a Secret to Everybody", b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def standard(**settings: Any) -> Scheme:
    return open_scheme({"scheme": "standard", "secret": SECRET, **settings})


def sign(message_id: str, timestamp: str, body: bytes, *, secret: str = SECRET) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def reason_of_refusal(scheme: Scheme, headers: Mapping[str, str], body: bytes = BODY, now: float = SENT_AT) -> str:
    with pytest.raises(SignatureRefused) as caught:
        scheme.verify(headers, body, at(now))
    return caught.value.reason


def test_standard_passes_the_published_vector_and_gives_its_id() -> None:
    assert standard().verify(SIGNED, BODY, at(SENT_AT)) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_standard_takes_the_older_header_names() -> None:
    older = {name.replace("webhook", "svix"): value for name, value in SIGNED.items()}
    assert standard().verify(older, BODY, at(SENT_AT)) == SIGNED["webhook-id"]


def test_standard_takes_parts_of_one_family_of_headers_only() -> None:
    mixed = {"svix-signature": SIGNED["webhook-signature"], "webhook-id": "x", "webhook-timestamp": str(SENT_AT)}
    assert "svix-timestamp" in reason_of_refusal(standard(), mixed)


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_standard_tolerates_a_clock_both_ways(age_s: int) -> None:
    assert standard().verify(SIGNED, BODY, at(SENT_AT + age_s))


@pytest.mark.parametrize(("age_s", "tells"), [(301, "301 s old"), (-301, "301 s ahead")])
def test_standard_refuses_beyond_the_tolerance_both_ways(age_s: int, tells: str) -> None:
    assert tells in reason_of_refusal(standard(), SIGNED, now=SENT_AT + age_s)
    assert standard(tolerance_s=400).verify(SIGNED, BODY, at(SENT_AT + age_s))


def test_tolerance_0_switches_the_age_off_and_never_the_signature() -> None:
    scheme = standard(tolerance_s=0)
    assert scheme.verify(SIGNED, BODY, at(SENT_AT + 10**9))
    assert reason_of_refusal(scheme, SIGNED, BODY + b" ")


@pytest.mark.parametrize(
    "text", ["1614265330.0", "+1614265330", " 1614265330", "1_614_265_330", "0x60", "٣", "1e9", "9" * 13]
)
def test_a_timestamp_is_strictly_decimal_even_when_its_age_is_not_checked(text: str) -> None:
    headers = {**SIGNED, "webhook-timestamp": text, "webhook-signature": sign(SIGNED["webhook-id"], text, BODY)}
    assert "decimal" in reason_of_refusal(standard(tolerance_s=0), headers)


def test_one_good_signature_in_a_list_is_enough_and_unknown_versions_are_skipped() -> None:
    good = SIGNED["webhook-signature"]
    listed = f"v1a,{good[3:]} v2,xx nonsense v1,!!! v1,AAAA  {good}"
    assert standard().verify({**SIGNED, "webhook-signature": listed}, BODY, at(SENT_AT))
    unknown = listed.removesuffix(good)
    assert "no v1 signature" in reason_of_refusal(standard(), {**SIGNED, "webhook-signature": unknown})


def test_any_of_several_secrets_is_valid_while_they_rotate() -> None:
    other = "whsec_" + base64.b64encode(b"another key, of another time").decode()
    assert standard(secret=[other, SECRET]).verify(SIGNED, BODY, at(SENT_AT))
    assert reason_of_refusal(standard(secret=[other]), SIGNED)


def test_an_id_with_the_delimiter_is_malformed_even_if_it_is_signed() -> None:
    headers = {**SIGNED, "webhook-id": "a.b", "webhook-signature": sign("a.b", str(SENT_AT), BODY)}
    with pytest.raises(IdMalformed, match="delimits"):
        standard().verify(headers, BODY, at(SENT_AT))


@pytest.mark.parametrize("name", list(SIGNED))
def test_standard_needs_each_of_its_headers(name: str) -> None:
    headers = {key: value for key, value in SIGNED.items() if key != name}
    assert name in reason_of_refusal(standard(), headers)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!!", "é", ["", SECRET], [], ""])
def test_a_secret_that_is_no_key_refuses_to_start_and_is_not_shown(secret: object) -> None:
    with pytest.raises(UsageError) as caught:
        standard(secret=secret)
    assert "MfKQ" not in str(caught.value) and "!!!!" not in str(caught.value)


@given(body=st.binary(max_size=50), change=st.integers(0, 49), bit=st.integers(0, 7))
def test_a_change_of_any_bit_of_the_body_is_refused(body: bytes, change: int, bit: int) -> None:
    headers = {**SIGNED, "webhook-signature": sign(SIGNED["webhook-id"], str(SENT_AT), body)}
    assert standard().verify(headers, body, at(SENT_AT))
    if body:
        changed = bytearray(body)
        changed[change % len(body)] ^= 1 << bit
        assert reason_of_refusal(standard(), headers, bytes(changed))


def test_github_passes_its_published_vector_and_gives_the_delivery() -> None:
    scheme = open_scheme({"scheme": "github", "secret": ["old", GITHUB_SECRET]})
    headers = {"x-hub-signature-256": GITHUB_SIGNATURE, "x-github-delivery": "72d3162e"}
    assert scheme.verify(headers, GITHUB_BODY, at(0)) == "72d3162e"
    assert not scheme.strict


@pytest.mark.parametrize(
    ("signature", "tells"),
    [
        (GITHUB_SIGNATURE.replace("757", "758"), "wrong"),
        (GITHUB_SIGNATURE[:-2], "wrong"),
        (GITHUB_SIGNATURE.removeprefix("sha256="), "begin with sha256="),
        (GITHUB_SIGNATURE.replace("sha256", "sha1"), "begin with sha256="),
        ("sha256=zz", "not hex"),
        ("", "no x-hub-signature-256"),
    ],
)
def test_github_refuses_what_is_not_its_signature(signature: str, tells: str) -> None:
    scheme = open_scheme({"scheme": "github", "secret": GITHUB_SECRET})
    assert tells in reason_of_refusal(scheme, {"x-hub-signature-256": signature}, GITHUB_BODY)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_hmac_takes_any_header_prefix_encoding_and_hash(algorithm: str, encoding: str) -> None:
    scheme = open_scheme(
        {
            "scheme": "hmac",
            "secret": "key",
            "header": "X-Acme-Sign",
            "prefix": "v=",
            "encoding": encoding,
            "algorithm": algorithm,
            "id_header": "X-Acme-Id",
        }
    )
    digest = hmac.digest(b"key", BODY, algorithm)
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert scheme.verify({"x-acme-sign": "v=" + text, "x-acme-id": "7"}, BODY, at(0)) == "7"
    assert "begin with" in reason_of_refusal(scheme, {"x-acme-sign": text})
    assert "is not" in reason_of_refusal(scheme, {"x-acme-sign": "v=*"})
    assert "wrong" in reason_of_refusal(scheme, {"x-acme-sign": "v=" + text}, BODY + b"x")
    assert "no x-acme-id" in reason_of_refusal(scheme, {"x-acme-sign": "v=" + text})


def test_hmac_passes_the_vector_of_rfc_4231() -> None:
    """RFC 4231, test case 2."""
    scheme = open_scheme({"scheme": "hmac", "secret": "Jefe", "header": "S"})
    signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert scheme.verify({"s": signature}, b"what do ya want for nothing?", at(0)) is None


def test_hmac_signs_a_template_of_headers_and_body_and_checks_its_timestamp() -> None:
    scheme = open_scheme(
        {
            "scheme": "hmac",
            "secret": "key",
            "header": "X-Sig",
            "template": "v0:{timestamp}:{header:X-Account}:{body}!",
            "timestamp_header": "X-Ts",
            "tolerance_s": 10,
        }
    )
    signature = hmac.digest(b"key", b"v0:1000:acme:" + BODY + b"!", "sha256").hex()
    headers = {"x-sig": signature, "x-ts": "1000", "x-account": "acme"}
    assert scheme.headers == set(headers)
    assert scheme.verify(headers, BODY, at(1010)) is None
    assert "old" in reason_of_refusal(scheme, headers, now=1011)
    assert "wrong" in reason_of_refusal(scheme, {**headers, "x-account": "other"}, now=1000)
    assert "no x-account" in reason_of_refusal(scheme, {"x-sig": signature, "x-ts": "1000"}, now=1000)


@pytest.mark.parametrize(
    ("settings", "tells"),
    [
        ({"template": "{timestamp}"}, "{body}"),
        ({"template": "{body}{body}"}, "{body}"),
        ({"template": "{timestamp}{body}"}, "timestamp_header"),
        ({"template": "{id}{body}"}, "id_header"),
        ({"template": "{body}{what}"}, "template knows"),
        ({"header": "X Sig"}, "not a header"),
        ({"algorithm": "md5"}, "auth.algorithm"),
        ({"encoding": "hex64"}, "auth.encoding"),
        ({"tolerance_s": -1}, "auth.tolerance_s"),
        ({"secrets": "x"}, "auth.secrets"),
    ],
)
def test_a_wrong_setting_refuses_to_start_and_is_named(settings: dict[str, object], tells: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_scheme({"scheme": "hmac", "secret": "not-to-be-shown", **settings})
    assert tells in str(caught.value)
    assert "not-to-be-shown" not in str(caught.value)


@pytest.mark.parametrize("name", ["github ", "GitHub", "sripe", "", None])
def test_an_unknown_scheme_refuses_to_start(name: object) -> None:
    with pytest.raises(UsageError, match="unknown scheme") as caught:
        open_scheme({"scheme": name, "secret": "x"})
    assert caught.value.hint == "known schemes: standard, github, hmac, none"


def test_none_lets_everything_pass_without_an_id() -> None:
    assert open_scheme({"scheme": "none"}).verify({}, b"", at(0)) is None


def test_what_a_provider_reserialises_is_not_strict_and_what_a_user_signs_is() -> None:
    secrets = {"standard": SECRET, "github": "x", "hmac": "x"}
    opened = {n: open_scheme({"scheme": n, **({"secret": secrets[n]} if n in secrets else {})}) for n in SCHEMES}
    assert {name: scheme.strict for name, scheme in opened.items()} == {
        "standard": True,
        "github": False,
        "hmac": True,
        "none": True,
    }


@pytest.mark.parametrize("bad", ["x" * 256, "a\tb", "a\x7f"])
def test_an_id_that_no_store_should_keep_is_malformed(bad: str) -> None:
    headers = {**SIGNED, "webhook-id": bad, "webhook-signature": sign(bad, str(SENT_AT), BODY)}
    with pytest.raises(IdMalformed):
        standard().verify(headers, BODY, at(SENT_AT))
