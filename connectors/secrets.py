"""Secrets from the environment: a secret `x` stands in MILLSTREAM_SECRET_X. No error and no repr shows a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streams.errors import UsageError

SECRET_PREFIX = "MILLSTREAM_SECRET_"


class SecretMissing(UsageError):
    """No secret of this name."""

    code = "secret_missing"


@dataclass(frozen=True, slots=True)
class EnvironmentSecrets:
    """`environment` is looked at on each call, so that a secret set later is found."""

    environment: Mapping[str, str] = field(repr=False)

    def get(self, name: str) -> str:
        """The secret. Raises SecretMissing, also for an empty one: an empty key signs nothing."""
        variable = _variable(name)
        value = self.environment.get(variable, "")
        if not value:
            raise SecretMissing(f"the secret `{name}` is not set", hint=f"Set the environment variable {variable}.")
        return value

    def found(self, names: Iterable[str]) -> dict[str, str]:
        """Those of these secrets that are set, by name: what a node's process is given, and no others."""
        return {name: value for name in names if (value := self.environment.get(_variable(name), ""))}


def _variable(name: str) -> str:
    return f"{SECRET_PREFIX}{name.upper()}"
