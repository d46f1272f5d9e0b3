"""`millstream promote`: a project that has outgrown one machine moves to PostgreSQL, and its topics to Kafka."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from millstream.cli.context import CommandContext
from millstream.cli.opened import existing_store
from millstream.cli.output import print_json, say
from millstream.cli.progress import progress
from millstream.cli.tabular import count, show_table
from millstream.project import Project, topic_prefix
from millstream.safe_url import safe_url
from millstream.tables.existing_store import open_existing
from nodes.python.crash_point import VARIABLE, arm_from
from streams.ambient import SystemAmbient
from streams.backends import OWN_LOG, open_store
from streams.errors import UsageError
from streams.store import Store

if TYPE_CHECKING:
    from millstream.promote.promotion import Outcome

SERVICE = "service"  # the lock of the one service that a SQLite store has
DIGEST_CHARS = 16


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: millstream promote --to-store postgresql://user@host/db --to-log kafka://host:9092",
    )(promote)


def promote(
    ctx: typer.Context,
    to_store: str | None = typer.Option(None, metavar="URL", help="An empty PostgreSQL database."),
    to_log: str | None = typer.Option(
        None, metavar="URL", help="Kafka, for the source topics; without it they go into the store, too."
    ),
    undo: bool = typer.Option(False, "--undo", help="Let the project run on its old store again."),
) -> None:
    """Move a stopped project to another store and log: tables, topics, progress and history. If it is killed, run it
    again: it goes on where it was. Exits 1 where both sides differ in the end."""
    if undo:
        _undo(ctx)
        return
    crash_point = os.environ.get(VARIABLE)
    if crash_point is not None:
        arm_from(crash_point)
    context = CommandContext.of(ctx)
    project = context.project()
    if to_store is None:
        raise _without_store(project, to_log)
    with _both(project, to_store, _check_log(project, to_store, to_log)) as (source, target):
        done = _promoted(project, source, target, to_log=to_log)
        settings = _settings(to_store, to_log)
        if context.as_json:
            print_json(_shape(done, settings))
        else:
            _show(done, settings)
    if not done.ok:
        raise typer.Exit(1)


def _undo(ctx: typer.Context) -> None:
    from millstream.promote.promotion import undo

    with existing_store(ctx) as store:
        with store.write() as tx:
            was = undo(tx)
        told = f"{store.url} may run again" if was else f"{store.url} was not promoted: nothing to undo"
    if CommandContext.of(ctx).as_json:
        print_json({"store": store.url, "undone": was})
    else:
        sys.stdout.write(told + "\n")


def _without_store(project: Project, to_log: str | None) -> UsageError:
    if to_log is None:
        return UsageError("promote where?", hint="say --to-store postgresql://user@host/db, and --to-log for Kafka")
    if project.settings.shared_store:
        return UsageError(
            "--to-log alone would rewrite every place in the ledger of the only copy there is: nothing would be left "
            "to compare with, or to go back to",
            hint="say --to-store with a new, empty database as well; it may be on the same server",
        )
    return UsageError(
        "--to-log alone would leave the tables in SQLite, which only one machine can work on, whatever the log is",
        hint="say --to-store postgresql://user@host/db as well",
    )


def _check_log(project: Project, to_store: str, to_log: str | None) -> str:
    """The log that the target will have. Raises UsageError."""
    held = project.settings.log
    if to_log is None:
        return held
    if held != OWN_LOG:
        raise UsageError(f"the topics are on {safe_url(held)} already", hint="leave --to-log out: they stay there")
    if to_store.startswith("sqlite"):
        raise UsageError("Kafka needs a store that several may share, not SQLite", hint="say --to-store postgresql://…")
    return to_log


@contextmanager
def _both(project: Project, to_store: str, log: str) -> Iterator[tuple[Store, Store]]:
    """The project's store and the new one."""
    source = open_existing(project)
    try:
        slug = project.graph().slug
        schema = project.schema(slug)
        target = open_store(to_store, log=log, project=slug, schema=schema, ambient=SystemAmbient())
        try:
            yield source, target
        finally:
            target.close()
    finally:
        source.close()


def _promoted(project: Project, source: Store, target: Store, *, to_log: str | None) -> Outcome:
    from millstream.promote.plan import make_plan
    from millstream.promote.promotion import promote as move

    sinks = {node.webhook.webhook: node.node_id for node in project.graph().nodes if node.webhook is not None}
    held = project.settings.log
    log = safe_url(to_log or held)
    prefix = topic_prefix(to_log or held)
    plan = make_plan(source, target, sinks=sinks, log=log, moves_log=held == OWN_LOG, topic_prefix=prefix)
    if not project.settings.shared_store:
        source.hold_liveness(SERVICE)  # a service that is started meanwhile stands by
    return move(plan, progress=lambda doing, total: progress(doing, total=total))


def _settings(to_store: str, to_log: str | None) -> list[str]:
    lines = [f'store = "{safe_url(to_store)}"']
    return lines if to_log is None else [*lines, f'log = "{safe_url(to_log)}"']


def _shape(done: Outcome, settings: list[str]) -> dict[str, object]:
    after = {(each.table, each.version): each.digest for each in done.after}
    return {
        "ok": done.ok,
        "store": done.plan.target.url,
        "log": done.plan.mark.log,
        "topics": [
            {"topic": topic.name, "partitions": topic.partitions, "records": done.plan.records_of(topic)}
            for topic in done.plan.topics
        ],
        "tables": [
            {
                "table": each.table,
                "version": each.version,
                "state": each.state,
                "rows": each.rows,
                "digest": each.digest,
                "target_digest": after.get((each.table, each.version)),
            }
            for each in done.before
        ],
        "checkpoints": done.verification.checkpoints,
        "faults": [fault.problem for fault in done.verification.faults],
        "settings": settings,
    }


def _show(done: Outcome, settings: list[str]) -> None:
    after = {(each.table, each.version): each.digest for each in done.after}
    rows: list[list[object]] = []
    for each in done.before:
        there = after.get((each.table, each.version))
        told = "the same" if there == each.digest else f"DIFFERS: {(there or 'missing')[:DIGEST_CHARS]}"
        rows.append([each.table, each.version, each.state, each.rows, each.digest[:DIGEST_CHARS], told])
    show_table(("table", "version", "state", "rows", "sha256", "there"), rows, empty="There are no tables.")
    records = f"{count(done.plan.records, 'record')} in {count(len(done.plan.topics), 'topic')} moved"
    verified = done.verification
    told = "no faults" if verified.ok else count(len(verified.faults), "fault")
    sys.stdout.write(f"{records}; {count(verified.checkpoints, 'checkpoint')} recounted there: {told}\n")
    for fault in verified.faults:
        sys.stdout.write(f"fault: {fault.agent}, {fault.topic}/{fault.partition}: {fault.problem}\n")
    for table, why in done.views_behind.items():
        say(f"warning: the view of {table} could not be made yet: {why}")
    if not done.ok:
        say("error: the two sides differ, so the project stays where it is")
        return
    sys.stdout.write("The project is there now. Write this to millstream.toml, with the passwords:\n\n")
    sys.stdout.write("".join(f"    {line}\n" for line in settings))
