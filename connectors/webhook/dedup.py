"""Which id makes a repeat of a request, or of a record, known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.signatures.scheme import IdMalformed, check_id


@dataclass(frozen=True, slots=True)
class Dedup:
    """Where ids come from: a header (lower case), a field of each record, or neither: then from the scheme."""

    header: str | None = None
    field: str | None = None

    def request_id(self, headers: Mapping[str, str], scheme_id: str | None) -> str | None:
        """The id of the whole request, None where records carry their own or there is none. Raises IdMalformed.

        A declared header that is absent is an error: without it the sender's retry would be taken twice.
        """
        if self.field is not None:
            return None
        if self.header is None:
            return scheme_id
        if self.header not in headers:
            raise IdMalformed(f"no {self.header} header, which holds the id of a request here")
        return check_id(headers[self.header], source=f"the header {self.header}")

    def entry_ids(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, ...] | None:
        """The id of each record, None where the request has one for all. Raises IdMalformed.

        A string or an integer; an integer is the same id as the string of its digits.
        """
        field = self.field
        if field is None:
            return None
        return tuple(_id_text(record.get(field), field, index) for index, record in enumerate(records))


def _id_text(value: object, field: str, index: int) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is str:
        return check_id(value, source=f"field {field!r} of record {index} (counted from 0)")
    raise IdMalformed(f"field {field!r} of record {index} (counted from 0) must hold its id, a string or an integer")
