"""GitHub: `X-Hub-Signature-256` is the HMAC-SHA256 of the body in hex; `X-GitHub-Delivery` is the id.

Source: GitHub's documentation, "Validating webhook deliveries". The delivery id is not part of what is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from connectors.signatures.scheme import SignatureRefused, SignedAuth, Signer, any_equal, check_id, header, signer

_SIGNATURE, _DELIVERY = "x-hub-signature-256", "x-github-delivery"


class GithubAuth(SignedAuth):
    """`auth: {scheme: github, secret: …}`."""

    scheme: Literal["github"]


@dataclass(frozen=True, slots=True)
class Github:
    """Signs the body; no timestamp, so that only the delivery id tells a replay."""

    signers: tuple[Signer, ...]

    strict = False
    headers = frozenset({_SIGNATURE, _DELIVERY})

    def verify(self, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> str | None:  # noqa: ARG002
        algorithm, _, text = header(headers, _SIGNATURE).partition("=")
        if algorithm != "sha256":
            raise SignatureRefused("the signature does not begin with sha256=")
        try:
            given = bytes.fromhex(text)
        except ValueError:
            raise SignatureRefused("the signature is not hex") from None
        if not any_equal([sign(raw_body) for sign in self.signers], (given,)):
            raise SignatureRefused("the signature is wrong")
        delivery = headers.get(_DELIVERY)
        return None if delivery is None else check_id(delivery, source=f"the header {_DELIVERY}")


def open_github(settings: GithubAuth) -> Github:
    """The scheme, keyed by the secrets as they are written."""
    return Github(tuple(signer(secret.encode(), "sha256") for secret in settings.secrets))
