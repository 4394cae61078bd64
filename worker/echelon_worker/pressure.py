"""How much of its credit a worker uses while the machine is short of something.

A worker on a hot machine should get less than an idle equal, without going back and forth at the threshold:
so a level is entered at one figure and left at a lower one. The figures are read at the edge (`figures`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """Percent in use, of the machine or of the container that we are in."""

    cpu: float = 0.0
    memory: float = 0.0


class Level(Enum):
    """The value is the share of the credit that is left."""

    EASY = 1.0
    TIGHT = 0.2
    FULL = 0.0  # memory is nearly gone: one message at a time


CPU_TIGHT: Final = (95.0, 80.0)  # entered at, left below
MEMORY_TIGHT: Final = (85.0, 80.0)
MEMORY_FULL: Final = (95.0, 90.0)


def _beyond(figure: float, bounds: tuple[float, float], inside: bool) -> bool:
    enter, leave = bounds
    return figure >= (leave if inside else enter)


class Pressure(msgspec.Struct, frozen=True):
    """What is short at present; each of the three has its own hysteresis."""

    cpu: bool = False
    memory: bool = False
    full: bool = False

    @property
    def level(self) -> Level:
        if self.full:
            return Level.FULL
        return Level.TIGHT if self.cpu or self.memory else Level.EASY

    def after(self, figures: Figures) -> Pressure:
        """
        >>> hot = Pressure().after(Figures(cpu=99.0))
        >>> hot.level.name, hot.after(Figures(cpu=85.0)).level.name, hot.after(Figures(cpu=70.0)).level.name
        ('TIGHT', 'TIGHT', 'EASY')
        """
        return Pressure(
            cpu=_beyond(figures.cpu, CPU_TIGHT, self.cpu),
            memory=_beyond(figures.memory, MEMORY_TIGHT, self.memory),
            full=_beyond(figures.memory, MEMORY_FULL, self.full),
        )
