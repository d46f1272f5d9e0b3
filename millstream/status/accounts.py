"""What `verify` and `why` tell, in the shapes that are promised."""

from __future__ import annotations

from millstream.status.shapes import VerifyShape, WhyShape
from millstream.tables.topic_records import record_shape
from streams.history.verify import BuildTotal, Verification
from streams.history.why import Explanation


def verify_shape(found: Verification) -> VerifyShape:
    return {
        "ok": found.ok,
        "checkpoints": found.checkpoints,
        "agents": [
            {
                "agent": str(total.build),
                "inputs": [
                    {
                        "topic": consumed.partition.topic,
                        "kind": consumed.partition.kind.value,
                        "partition": consumed.partition.index,
                        "first_offset": consumed.first_offset,
                        "next_offset": consumed.next_offset,
                        "records_in": consumed.records_in,
                        "duplicates": consumed.duplicates,
                        "dead_letters": consumed.dead_letters,
                    }
                    for consumed in total.inputs.values()
                ],
                "outputs": [
                    {
                        "table": written.table,
                        "version": written.version,
                        "partition": written.partition,
                        "first_offset": written.first_offset,
                        "end_offset": written.end_offset,
                        "rows": written.rows,
                    }
                    for written in total.outputs.values()
                ],
            }
            for total in found.builds
            if _has_worked(total)
        ],
        "gaps": [
            {
                "agent": gap.agent,
                "topic": gap.topic,
                "partition": gap.partition,
                "first_offset": gap.first_offset,
                "next_offset": gap.next_offset,
            }
            for gap in found.gaps
        ],
        "faults": [
            {
                "agent": fault.agent,
                "topic": fault.topic,
                "partition": fault.partition,
                "offset": fault.offset,
                "problem": fault.problem,
            }
            for fault in found.faults
        ],
    }


def _has_worked(total: BuildTotal) -> bool:
    return total.live or bool(total.inputs or total.outputs)


def why_shape(found: Explanation) -> WhyShape:
    entry = found.entry
    return {
        "table": found.table,
        "version": found.version,
        "partition": found.partition,
        "offset": found.offset,
        "row": dict(found.row),
        "run": entry.run_id,
        "node": entry.build.agent,
        "code_hash": entry.code_hash,
        "committed_at": entry.committed_at,
        "exact": found.exact,
        "inputs": [
            {
                "topic": shown.consumed.partition.topic,
                "kind": shown.consumed.partition.kind.value,
                "partition": shown.consumed.partition.index,
                "from": shown.consumed.first_offset,
                "to": shown.consumed.next_offset,
                "gone": shown.gone,
                "records": [record_shape(record) for record in shown.records],
            }
            for shown in found.inputs
        ],
    }
