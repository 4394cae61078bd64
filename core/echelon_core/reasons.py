"""Every reason to wait. A value with its fields; its sentence and its mend stand here alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Reason:
    code: ClassVar[str]
    sentence: ClassVar[str]
    mend: ClassVar[str] = ""

    def __str__(self) -> str:
        said = self.sentence.format(**self.__dict__)
        return f"{said} {self.mend.format(**self.__dict__)}" if self.mend else said


@dataclass(frozen=True)
class NoWorker(Reason):
    """No living worker offers the type."""

    code = "no_worker"
    sentence = "No live worker offers {task_type!r}{where}."
    mend = "Start one with: echelon worker --app FILE, where FILE has a task of that name."

    task_type: str
    region: str = ""

    @property
    def where(self) -> str:
        return f" in region {self.region}" if self.region else ""

    def __str__(self) -> str:
        return f"{self.sentence.format(task_type=self.task_type, where=self.where)} {self.mend}"


@dataclass(frozen=True)
class WaitsForDependencies(Reason):
    code = "dependencies"
    sentence = "Waits for {left} of {total} dependencies."

    left: int
    total: int


@dataclass(frozen=True)
class WaitsToRetry(Reason):
    code = "backoff"
    sentence = "Failed {failures} of {allowed} times; runs again at {at}."

    failures: int
    allowed: int
    at: str


@dataclass(frozen=True)
class SlotsBusy(Reason):
    code = "slots_busy"
    sentence = "Every slot for {task_type!r} is busy; {ahead} tasks go before it."

    task_type: str
    ahead: int


@dataclass(frozen=True)
class NoRegion(Reason):
    code = "no_region"
    sentence = "Region {region!r} has no scheduler running."
    mend = "Start it with: echelon regional --region {region}."

    region: str


@dataclass(frozen=True)
class NoMaster(Reason):
    code = "no_master"
    sentence = "No master leads, so nothing is placed."
    mend = "Start one with: echelon master."


@dataclass(frozen=True)
class CancelWanted(Reason):
    code = "cancel_wanted"
    sentence = "Its end was asked for{by_whom}; it stops as soon as its worker has heard."

    by: str = ""

    @property
    def by_whom(self) -> str:
        return f" by {self.by}" if self.by else ""

    def __str__(self) -> str:
        return self.sentence.format(by_whom=self.by_whom)
