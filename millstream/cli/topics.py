"""`millstream topics`: source topics, read and appended to by hand."""

from __future__ import annotations

import sys

import typer

from connectors.webhook.parse import Body
from millstream.cli.context import CommandContext
from millstream.cli.input_lines import json_objects, opened
from millstream.cli.opened import existing_store, store_or_empty, writable_store
from millstream.cli.output import print_json, print_lines, say
from millstream.cli.progress import progress
from millstream.cli.tabular import count, on_terminal, show_table
from millstream.status.shapes import AppendedShape
from millstream.tables.topic_records import known_topic, read_records, topic_shape
from streams.ambient import SystemAmbient
from streams.errors import UsageError
from streams.log import AppendRequest, Entry, Log

APPEND_RECORDS = 1_000  # records appended in one commit
SHOWN_ON_TERMINAL = 20


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Source topics: list, read, append.")
    group.command("list", epilog="Example: millstream topics list")(list_topics)
    group.command("read", epilog="Example: millstream topics read leads --from 100 --limit 5")(read)
    group.command("append", epilog='Example: echo \'{"email": "ada@example.org"}\' | millstream topics append leads')(
        append
    )
    app.add_typer(group, name="topics")


def list_topics(ctx: typer.Context) -> None:
    """List the source topics and how far they reach."""
    context = CommandContext.of(ctx)
    with store_or_empty(context.project()) as store:
        found = [topic_shape(info) for info in store.log.topics()]
    if context.as_json:
        print_json(found)
        return
    rows = [[each["topic"], each["partitions"], each["records"], sum(each["end_offsets"])] for each in found]
    show_table(("topic", "partitions", "records kept", "appended"), rows, empty="There are no source topics.")


def read(
    ctx: typer.Context,
    topic: str = typer.Argument(metavar="T", help="The topic."),
    first: int = typer.Option(0, "--from", min=0, metavar="N", help="The first offset, of each partition."),
    limit: int | None = typer.Option(
        None, min=0, metavar="N", help=f"At most so many; default: {SHOWN_ON_TERMINAL} on a terminal, else all."
    ),
    partition: int | None = typer.Option(None, min=0, metavar="P", help="Only this partition."),
) -> None:
    """Print records in order, one JSON object a line."""
    with existing_store(ctx) as store:
        info = known_topic(store.log, CommandContext.of(ctx).project().source_topic(topic))
        if partition is not None and partition >= info.partitions:
            raise UsageError(f"topic `{topic}` has no partition {partition}", hint=f"it has {info.partitions}, from 0")
        wanted = range(info.partitions) if partition is None else (partition,)
        cut = SHOWN_ON_TERMINAL if limit is None and on_terminal() else limit
        print_lines(read_records(store.log, info, first=dict.fromkeys(wanted, first), records_max=cut))
        left = sum(max(info.end_offsets[each] - max(first, info.first_offsets[each]), 0) for each in wanted)
        if limit is None and cut is not None and left > cut:
            say(f"… {left - cut:,} more: --limit N shows so many")


def append(
    ctx: typer.Context,
    topic: str = typer.Argument(metavar="T", help="The topic; made if absent."),
    file: str = typer.Argument("-", metavar="[FILE|-]", help="NDJSON; - is stdin."),
    partition: int | None = typer.Option(None, min=0, metavar="P", help="Into this partition."),
) -> None:
    """Append records, one JSON object a line. What was appended when it stops is told, and stays."""
    if file == "-" and sys.stdin.isatty():
        say("reading records from the terminal, one JSON object a line; Ctrl-D ends")
    context = CommandContext.of(ctx)
    topic = context.project().source_topic(topic)
    told: AppendedShape = {"topic": topic, "accepted": 0, "duplicates": 0, "offsets": []}
    with writable_store(ctx) as store, opened(file) as stream, progress(f"appending to {topic}") as advance:
        _check_partition(store.log, topic, partition)
        try:
            for body in json_objects(stream, file, records_max=APPEND_RECORDS):
                _append(store.log, told, body, partition)
                advance(len(body.values))
        finally:
            _tell(told, as_json=context.as_json)


def _check_partition(log: Log, topic: str, partition: int | None) -> None:
    info = log.topic(topic)
    has = info.partitions if info is not None else 1
    if partition is not None and partition >= has:
        raise UsageError(f"topic `{topic}` has no partition {partition}", hint=f"it has {has}, from 0")


def _append(log: Log, told: AppendedShape, body: Body, partition: int | None) -> None:
    if not body.values:
        return
    entries = tuple(Entry(value) for value in body.values)
    (answer,) = log.append([AppendRequest(told["topic"], entries, SystemAmbient().now(), partition=partition)])
    told["accepted"] += answer.accepted
    told["duplicates"] += answer.duplicates
    for each in answer.offsets:
        last = next((one for one in told["offsets"] if one["partition"] == each.partition), None)
        if last is not None and last["last"] + 1 == each.first:
            last["last"] = each.last
        else:
            told["offsets"].append({"partition": each.partition, "first": each.first, "last": each.last})


def _tell(told: AppendedShape, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    places = ", ".join(f"{each['first']}-{each['last']} of partition {each['partition']}" for each in told["offsets"])
    sys.stdout.write(
        f"{count(told['accepted'], 'record')} appended to {told['topic']}{places and f': offsets {places}'}\n"
    )
