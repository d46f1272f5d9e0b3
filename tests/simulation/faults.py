"""What goes wrong, and how often: chosen by the seed, drawn at each statement, commit, append and hint."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Faults:
    """Chances: of a kill, a stall and a clock step at each place between transactions, of a dropped connection and a
    kill at each statement, of an unknown outcome at each commit. `deaf` loses every hint, also after the faults end.
    """

    kill: float = 0.0
    kill_in_transaction: float = 0.0
    kill_at_crash_point: float = 0.0
    stall: float = 0.0
    dropped: float = 0.0
    unknown: float = 0.0
    slow: float = 0.0
    switch: float = 0.0
    clock: float = 0.0
    hint_lost: float = 0.0
    hint_repeated: float = 0.0
    usurp: float = 0.0
    deaf: bool = False

    @staticmethod
    def of(chance: random.Random) -> Faults:
        """The faults of one run. Some runs are calm, so that what fails there is no fault's doing."""

        def some(most: float) -> float:
            return most * chance.random() ** 2 if chance.random() < 0.6 else 0.0

        faults = Faults(
            kill=some(0.01),
            kill_in_transaction=some(0.003),
            kill_at_crash_point=some(0.02),
            stall=some(0.01),
            dropped=some(0.01),
            unknown=some(0.05),
            slow=some(0.05),
            switch=0.1 + 0.4 * chance.random(),
            clock=some(0.01),
            hint_lost=some(1.0),
            hint_repeated=some(0.2),
            usurp=some(0.5),
            deaf=chance.random() < 0.15,
        )
        if chance.random() < 0.1:
            return Faults(switch=faults.switch, deaf=faults.deaf)
        return faults

    def ended(self) -> Faults:
        """What is left when nothing goes wrong any more: hints that are lost stay lost."""
        return Faults(switch=self.switch, hint_lost=self.hint_lost, deaf=self.deaf)
