"""What graph.yml may say, entry by entry: the keys, their types and bounds. No file is read here.

Keys that belong to the format but not to this version stand in the `*_LATER` sets, so that they are told apart from
mistyped ones.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from nodes.graph.schedule import Schedule, check_cron, check_timezone


def _matching(pattern: str, rule: str) -> AfterValidator:
    """Text of this form; `rule` says in words what a value that is not lacks."""
    form = re.compile(pattern)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise ValueError(f"{value!r} {rule}")
        return value

    return AfterValidator(check)


# A webhook's name is a path segment, a topic and a table at once.
WebhookName = Annotated[
    str,
    _matching(
        r"[a-z][a-z0-9_]{0,62}",
        "is no name for a webhook: lower-case letters, digits and _, a letter first, at most 63",
    ),
]
# Names views, so it keeps to what PostgreSQL stores whole; `_ms_` begins the system tables of SQLite.
TableName = Annotated[
    str,
    _matching(
        r"(?!_ms_)[A-Za-z_][A-Za-z0-9_]{0,62}",
        "is no name for a table: letters, digits and _, no digit first, at most 63, not beginning with _ms_",
    ),
]
# `<slug>_millstream` must fit PostgreSQL's 63 bytes.
Slug = Annotated[
    str, _matching(r"[a-z][a-z0-9_]{0,51}", "is no slug: lower-case letters, digits and _, a letter first, at most 52")
]
# Kafka's own rule: what may name a directory.
KafkaTopicName = Annotated[
    str,
    _matching(
        r"(?!\.\.?$)[A-Za-z0-9._-]{1,249}",
        "is no name of a Kafka topic: letters, digits, ., _ and -, at most 249",
    ),
]
NodeId = Annotated[str, _matching(r"\S+", "is no id: it must be text without spaces")]
NotEmpty = Annotated[str, StringConstraints(min_length=1)]
FieldName = NotEmpty

GRAPH_KEYS = ("title", "slug", "functions", "stores")
GRAPH_LATER = (
    "version",
    "tags",
    "icon",
    "description_file",
    "requirements_file",
    "exposes",
    "storages",
    "schemas",
    "docs",
    "dashboards",
)
FUNCTION_FORMS = ("webhook", "kafka", "node_file", "data_node")
FUNCTION_FORMS_LATER = ("uses", "chart_input")
WEBHOOK_LATER = ("respond", "respond_timeout_s", "addresses", "partial", "unreadable", "display")
KAFKA_LATER = ("display",)
WEBHOOK_LIMITS_LATER = ("rate_per_s",)
DATA_NODE_LATER = ("display",)
NODE_FILE_LATER = ("chart_input", "config", "display")
STORE_LATER = ("display",)
AUTH_SCHEMES = ("standard", "github", "hmac")
AUTH_SCHEMES_LATER = ("stripe", "shopify", "slack", "meta", "x", "twilio", "bearer", "basic", "svix")


class Entry(BaseModel):
    """Strict: text is not taken for a number, nor a number for text."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


_AUTH_KEYS = {
    "standard": {"scheme", "secret", "tolerance_s"},
    "github": {"scheme", "secret"},
    "hmac": {
        "scheme",
        "secret",
        "tolerance_s",
        "header",
        "prefix",
        "encoding",
        "algorithm",
        "template",
        "timestamp_header",
        "id_header",
    },
}


class AuthEntry(Entry):
    """How a webhook's sender proves itself. What is None is left to the scheme."""

    scheme: str
    secret: NotEmpty | Annotated[list[NotEmpty], Field(min_length=1)]
    tolerance_s: Annotated[int, Field(ge=0)] | None = None
    header: NotEmpty | None = None
    prefix: str | None = None
    encoding: Literal["hex", "base64"] | None = None
    algorithm: Literal["sha1", "sha256", "sha512"] | None = None
    template: NotEmpty | None = None
    timestamp_header: NotEmpty | None = None
    id_header: NotEmpty | None = None

    @model_validator(mode="after")
    def _keys_of_the_scheme(self) -> Self:
        for key in sorted(self.model_fields_set - _AUTH_KEYS.get(self.scheme, set(type(self).model_fields))):
            raise ValueError(f"the scheme `{self.scheme}` has no `{key}`")
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.secret,) if isinstance(self.secret, str) else tuple(self.secret)


class DedupEntry(Entry):
    """Where the sender's id of a request or a record stands: a header, or a field of each record."""

    header: NotEmpty | None = None
    field: FieldName | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.field is None):
            raise ValueError("give one of `header` and `field`")
        return self


class WebhookLimitsEntry(Entry):
    body_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 10_485_760
    depth: Annotated[int, Field(ge=1, le=200)] = 64


class WebhookEntry(Entry):
    """`webhook: leads`: a route, the source topic `leads` and the table `leads` that it lands in."""

    webhook: WebhookName
    id: NodeId | None = None
    title: str | None = None
    auth: AuthEntry | Literal["none"] | None = None
    dedup: DedupEntry | None = None
    dedup_window_days: Annotated[int, Field(ge=1, le=3650)] = 7
    limits: WebhookLimitsEntry = WebhookLimitsEntry()
    shape: Literal["flat"] = "flat"
    partitions: Annotated[int, Field(ge=1, le=1024)] = 1
    key: FieldName | None = None
    status: Literal[200, 201, 202, 204] = 200
    retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7.0

    def endpoint_settings(self) -> dict[str, object]:
        """What the entry says of the endpoint that takes the requests, with only the keys that it gives."""
        return self.model_dump(
            exclude_unset=True, exclude_none=True, exclude={"id", "title", "shape", "retention_days"}
        )


class KafkaEntry(Entry):
    """`kafka: prod.orders-v2`: a topic that others fill. `as` is what nodes call it.

    It lands in a table only where `stores` declares one of that name.
    """

    kafka: KafkaTopicName
    name: TableName | None = Field(default=None, alias="as")
    id: NodeId | None = None
    title: str | None = None
    format: Literal["json", "bytes", "text", "avro", "json_schema", "protobuf"] = "json"
    on_gap: Literal["stop", "earliest", "latest"] = "stop"

    @property
    def called(self) -> str:
        return self.name or self.kafka


class NodeLimitsEntry(Entry):
    """What one run may take: seconds of wall time, bytes of resident memory."""

    time_s: Annotated[int, Field(ge=1)] = 600
    memory_bytes: Annotated[int, Field(ge=16 << 20)] = 1 << 30


class InputEntry(Entry):
    """A port's table; `trigger: false` makes it a lookup, whose new rows make nothing due."""

    table: TableName
    trigger: bool = True


Cron = Annotated[str, AfterValidator(check_cron)]


class TriggerEntry(Entry):
    """A schedule with what is said of it."""

    cron: Cron
    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    on_data: bool = False
    catch_up: Literal["once", "all"] = "once"


def _manual_or_cron(text: str) -> str:
    return text if text == "manual" else check_cron(text)


# `manual`, a cron expression in UTC, or a mapping.
Trigger = Annotated[str, AfterValidator(_manual_or_cron)] | TriggerEntry


def schedule_of(trigger: str | TriggerEntry | None) -> Schedule | None:
    """The schedule that an entry's `trigger` says, if it says one."""
    if isinstance(trigger, TriggerEntry):
        return Schedule(trigger.cron, trigger.timezone, trigger.on_data, trigger.catch_up)
    return None if trigger in (None, "manual") else Schedule(str(trigger))


class NodeFileEntry(Entry):
    """`node_file: x.py`: a program, or a file of `@agent` functions."""

    node_file: Annotated[str, StringConstraints(min_length=1)]
    id: NodeId | None = None
    title: str | None = None
    inputs: dict[str, TableName | InputEntry] = {}
    outputs: dict[str, TableName] = {}
    parameter_values: dict[str, Any] = {}
    on_error: Literal["dead_letter", "stop", "skip"] = "dead_letter"
    max_attempts: Annotated[int, Field(ge=1)] = 3
    limits: NodeLimitsEntry = NodeLimitsEntry()
    trigger: Trigger | None = None


class DataNodeEntry(Entry):
    """`data_node: module:Class`: a DataNode with its configuration."""

    data_node: Annotated[
        str,
        _matching(
            r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
            "is no DataNode: say module:Class, such as flights.nodes:HourlyDelay",
        ),
    ]
    id: NodeId | None = None
    title: str | None = None
    config: dict[str, Any] = {}
    max_attempts: Annotated[int, Field(ge=1)] = 3
    limits: NodeLimitsEntry = NodeLimitsEntry()
    trigger: Trigger | None = None

    @property
    def module(self) -> str:
        return self.data_node.partition(":")[0]

    @property
    def class_name(self) -> str:
        return self.data_node.partition(":")[2]


class StoreEntry(Entry):
    """What is declared of a table. `fields` is the key `schema`: a type for each field."""

    table: TableName
    id: NodeId | None = None
    title: str | None = None
    fields: Annotated[dict[FieldName, str], Field(min_length=1)] | None = Field(default=None, alias="schema")
    unique_on: Annotated[list[FieldName], Field(min_length=1)] | None = None
    time_index: FieldName | None = None
    lateness_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    retention_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 7.0
    partitions: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        if self.unique_on is not None and len(set(self.unique_on)) < len(self.unique_on):
            raise ValueError("`unique_on` names a field twice")
        if self.fields is not None:
            for name in (*(self.unique_on or ()), *((self.time_index,) if self.time_index else ())):
                if name not in self.fields:
                    raise ValueError(f"the field `{name}` is not in `schema`")
        return self
