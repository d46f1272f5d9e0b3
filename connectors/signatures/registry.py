"""The schemes by name: one line each. Adding one is a module beside this one and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.signatures.github import GithubAuth, open_github
from connectors.signatures.hmac_scheme import HmacAuth, open_hmac
from connectors.signatures.none_scheme import NoAuth, open_none
from connectors.signatures.scheme import Scheme
from connectors.signatures.standard import StandardAuth, open_standard
from streams.errors import UsageError

SCHEMES: dict[str, tuple[type[BaseModel], Callable[[Any], Scheme]]] = {
    "standard": (StandardAuth, open_standard),
    "github": (GithubAuth, open_github),
    "hmac": (HmacAuth, open_hmac),
    "none": (NoAuth, open_none),
}


def open_scheme(auth: Mapping[str, object]) -> Scheme:
    """The scheme that `auth` describes, its secrets already revealed.

    Raises UsageError, which names the key at fault and never a secret, for an unknown scheme or a wrong setting.
    """
    name = str(auth.get("scheme"))
    if name not in SCHEMES:
        near = difflib.get_close_matches(name, SCHEMES, n=1)
        raise UsageError(
            f"auth: unknown scheme {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="known schemes: " + ", ".join(SCHEMES),
        )
    model, opened = SCHEMES[name]
    try:
        return opened(model.model_validate(dict(auth)))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        told = "; ".join(f"auth.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise UsageError(told, hint=f"scheme {name}") from None
