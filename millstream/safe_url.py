"""URLs fit to be shown: whatever stands where a password or a key may stand is masked."""

from __future__ import annotations

import re

# Greedy up to the last `@`: a password that holds `@` or `/` unescaped is a mistake, and must not be shown for it.
_USER_PASSWORD = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)(?P<user>[^:@/?#\s]*):(?P<password>[^\s]*)@")
_SECRET_OPTION = re.compile(
    r"(?P<name>[?&;][^=&;#\s]*(?:password|passwd|pwd|secret|token|key)[^=&;#\s]*=)(?P<value>[^&;#\s]*)", re.IGNORECASE
)
_MASK = "***"


def safe_url(text: str) -> str:
    """The URL, or a text with URLs in it, without passwords. Users, hosts and options without secrets stay."""
    masked = _USER_PASSWORD.sub(rf"\g<scheme>\g<user>:{_MASK}@", text)
    return _SECRET_OPTION.sub(rf"\g<name>{_MASK}", masked)
