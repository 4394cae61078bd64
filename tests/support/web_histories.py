"""Made-up histories of tasks, written as the tiers would: a ledger, and for each region outcomes and a log.

Only what can happen does: one current run, closed runs stay closed, but reports come late, twice, or never,
workers are lost, regions are lost and go on talking, tasks are handed back, returned, cancelled, redriven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from echelon.wire.api import End, Submission, Where
from echelon.wire.child import CANCELLED, ERROR, HANDED_BACK, OK, Error, Outcomes, Ran, Started
from echelon.wire.codec import pack
from echelon_core.entries import (
    Admitted,
    AdmittedGroup,
    Again,
    Cancel,
    Delegated,
    Dependency,
    Ended,
    Item,
    Moved,
    Redriven,
    Returned,
    Settled,
    Verdicts,
    Withdrawn,
)
from echelon_core.runs import first_run

REGIONS = ("east", "west")
STREAMS = ("ledger", *(f"{kind}.{region}" for region in REGIONS for kind in ("outcomes", "log")))


@dataclass
class Known:
    """What the writers know of a task. `kind`: waiting, ready, out, or how it ended."""

    ref: int
    kind: str
    needs: list[int] = field(default_factory=list)
    region: str = ""
    delegation: int = 0
    run: int = 0
    begun: bool = False
    charged: int = 0
    losses: int = 0
    wanted: bool = False


class History:
    """`written`: (stream, sequence, bytes) in the order in which it was written."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.written: list[tuple[str, int, bytes]] = []
        self.last = dict.fromkeys(STREAMS, 0)
        self.tasks: dict[int, Known] = {}
        self.now = 1_700_000_000.0
        self._late: list[tuple[str, Ran]] = []

    def step(self) -> None:
        self.now += self.random.choice((0.001, 0.5, 7.0))
        choices: list[Callable[[], None]] = [self._admit]
        for task in self.tasks.values():
            match task.kind:
                case "waiting" | "ready":
                    choices += [lambda t=task: self._place(t), lambda t=task: self._end_here(t)]  # type: ignore[misc]
                case "out":
                    choices += [lambda t=task, a=act: a(t) for act in self._acts()]  # type: ignore[misc]
                case "failed" | "cancelled":
                    choices.append(lambda t=task: self._redrive(t))  # type: ignore[misc]
        if self._late:
            choices += [self._straggler] * 3
        self.random.choice(choices)()

    def _acts(self) -> list[Callable[[Known], None]]:
        return [
            self._start, self._succeed, self._succeed, self._err, self._lose, self._hand_back,
            self._return, self._withdraw, self._cancel, self._die,
        ]  # fmt: skip

    # ------------------------------------------------------------------------------- streams
    def _write(self, stream: str, entry: object) -> int:
        self.last[stream] += 1
        self.written.append((stream, self.last[stream], pack(entry)))
        return self.last[stream]

    def _told(self, region: str, ran: list[Ran], starts: list[Started] | None = None) -> int:
        return self._write(f"outcomes.{region}", Outcomes(f"w-{region}", ran, starts or []))

    def _verdicts(self, region: str, **what: object) -> int:
        ledger, outcomes = self.last["ledger"], self.last[f"outcomes.{region}"]
        return self._write(f"log.{region}", Verdicts(ledger, outcomes, self.now, **{"ok": [], **what}))  # type: ignore[arg-type]

    # -------------------------------------------------------------------------------- ledger
    def _admit(self) -> None:
        first = (self.last["ledger"] + 1) << 10
        submissions, dependencies = [], {}
        for index in range(self.random.randint(1, 3)):
            ref = first + index
            needs = [other for other in self.tasks if self.random.random() < 0.2][:2]
            if needs:
                dependencies[index] = [
                    Dependency(other, "ok" if self.tasks[other].kind == "ok" else "") for other in needs
                ]
            waits = any(self.tasks[other].kind != "ok" for other in needs)
            self.tasks[ref] = Known(ref, "waiting" if waits else "ready", needs)
            name = f"task-{ref}" if self.random.random() < 0.3 else ""
            submissions.append(Submission("t", b"1", name, dependencies=tuple(f"d{n}" for n in needs)))
        group = AdmittedGroup("key", "", submissions, {}, dependencies)
        self._write("ledger", Admitted(self.now, [group]))

    def _place(self, task: Known) -> None:
        task.region = self.random.choice(REGIONS)
        item = Item(task.ref, "t", b"1", 5, charged=task.charged, losses=task.losses)
        task.delegation = self._write("ledger", Delegated(self.now, task.region, [item]))
        task.run, task.kind, task.begun = first_run(task.delegation), "out", False

    def _end_here(self, task: Known) -> None:
        """The master ends what no region has."""
        kind = self.random.choice(("cancelled", "failed"))
        cause = "dependency_failed" if kind == "failed" else "cancelled"
        self._settle(task, kind, End(task.ref, kind, cause, "other"), "")

    def _settle(self, task: Known, kind: str, end: End | None, region: str, ok: int = 0) -> None:
        where = [Where(region, ok, [task.ref])] if ok else []
        position = self.last[f"log.{region}"] if region else 0
        self._write("ledger", Settled(self.now, region, position, where, [end] if end else []))
        task.kind, task.delegation = kind, 0

    def _redrive(self, task: Known) -> None:
        self._write("ledger", Redriven(self.now, task.ref, Submission("t", b"2", priority=9)))
        self.tasks[task.ref] = Known(task.ref, "ready")

    def _withdraw(self, task: Known) -> None:
        """The region is lost; what it does from now on does not count, but is still said."""
        if self.random.random() < 0.7:
            self._late.append((task.region, self._ran(task, OK)))
        self._write("ledger", Withdrawn(self.now, task.region, [(task.ref, task.delegation)]))
        task.kind, task.delegation = "ready", 0

    def _cancel(self, task: Known) -> None:
        if not task.wanted:
            task.wanted = True
            self._write("ledger", Cancel(self.now, task.region, [(task.ref, task.delegation)], "ana"))

    # -------------------------------------------------------------------------------- region
    def _ran(self, task: Known, status: int) -> Ran:
        error = Error("E", f"run {task.run}", "trace") if status == ERROR else None
        begun = 0.0 if status in (HANDED_BACK,) else self.now + 0.001
        return Ran(task.ref, task.run, status, b"7" if status == OK else b"", begun, self.now + 0.01, error)

    def _start(self, task: Known) -> None:
        if not task.begun:
            task.begun = True
            self._told(task.region, [], [Started(task.ref, task.run, self.now + 0.001)])

    def _succeed(self, task: Known) -> None:
        ran = self._ran(task, OK)
        sequence = self._told(task.region, [ran])
        if self.random.random() < 0.3:  # a copy ran too
            self._told(task.region, [ran])
        self._verdicts(task.region, ok=[(sequence, [task.ref])])
        self._settle(task, "ok", None, task.region, sequence)

    def _err(self, task: Known) -> None:
        task.charged += 1
        sequence = self._told(task.region, [self._ran(task, ERROR)])
        again = Again(task.ref, task.run, "error", self.now + 5, task.charged, task.losses, sequence)
        self._verdicts(task.region, again=[again])
        self._next(task)

    def _die(self, task: Known) -> None:
        task.charged += 1
        status = CANCELLED if task.wanted else ERROR
        sequence = self._told(task.region, [self._ran(task, status)])
        kind, cause = ("cancelled", "cancelled") if task.wanted else ("dead", "error")
        ended = Ended(task.ref, task.run, kind, cause, sequence, task.charged, task.losses)
        self._verdicts(task.region, ended=[ended])
        kind = "cancelled" if task.wanted else "failed"
        self._settle(task, kind, End(task.ref, kind, cause, "", task.region, sequence), task.region)

    def _lose(self, task: Known) -> None:
        if self.random.random() < 0.5:
            self._late.append((task.region, self._ran(task, self.random.choice((OK, ERROR)))))
        task.losses += 1
        self._verdicts(task.region, again=[self._uncharged(task, "lost")])
        self._next(task)

    def _hand_back(self, task: Known) -> None:
        if task.begun:
            return
        self._told(task.region, [self._ran(task, HANDED_BACK)])
        self._verdicts(task.region, again=[self._uncharged(task, "handed_back")])
        self._next(task)

    def _uncharged(self, task: Known, cause: str) -> Again:
        return Again(task.ref, task.run, cause, self.now, task.charged, task.losses)

    def _next(self, task: Known) -> None:
        task.run, task.begun = task.run + 1, False

    def _return(self, task: Known) -> None:
        self._verdicts(task.region, returned=[Returned(task.ref, task.charged, task.losses)])
        moved = Moved(task.ref, task.charged, task.losses, True)
        position = self.last[f"log.{task.region}"]
        self._write("ledger", Settled(self.now, task.region, position, [], [], [moved]))
        self._write("ledger", Withdrawn(self.now, task.region, [(task.ref, task.delegation)]))
        task.kind, task.delegation = "ready", 0

    def _straggler(self) -> None:
        region, ran = self._late.pop(self.random.randrange(len(self._late)))
        self._told(region, [ran])


def interleaved(history: History, random: Random) -> list[tuple[str, int, bytes]]:
    """The same streams, each in its order, read in any other order."""
    left = {stream: [entry for entry in history.written if entry[0] == stream] for stream in STREAMS}
    made = []
    while any(left.values()):
        stream = random.choice([name for name, entries in left.items() if entries])
        made += [left[stream].pop(0) for _ in range(min(random.choice((1, 1, 3, 50)), len(left[stream])))]
    return made
