"""Records that are gone before a program has read them: they are passed in a checkpoint of their own."""

from __future__ import annotations

from streams.checkpoint.checkpoint import Checkpoint
from streams.model.ledger import Cause
from streams.model.position import Move, Owner
from streams.model.run import Run
from streams.programs.program_spec import ProgramSpec


def gap_checkpoint(owner: Owner, run: Run, spec: ProgramSpec, move: Move) -> Checkpoint:
    """The move alone, so that the ledger names what is gone and nothing else."""
    return Checkpoint(
        owner.build,
        owner.epoch,
        spec.code_hash,
        run.run_id,
        run.started_at,
        moves=(move,),
        checkpoint_number=owner.checkpoint_number,
        segment=owner.segment,
        cause=Cause.GAP,
    )
