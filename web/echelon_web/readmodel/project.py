"""What the streams say, as rows: a fold of the ledger, the regions' logs and their outcomes. Pure.

The ledger is law and read in order. The other streams are read whenever they come, so everything taken from
them commutes: a fact belongs to a run, of two facts about the newest run the later run wins, verdicts close
runs by number, and what speaks of a delegation that the ledger has not told of yet waits (`feed`). An end is
terminal when it is settled; until then a region's verdict only says "again" or adds to an attempt.

A short task is admitted, placed and ended within one batch: it becomes one row, written once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from echelon.wire.api import End, Submission
from echelon.wire.child import HANDED_BACK, OK, Outcomes, Ran
from echelon.wire.codec import pack
from echelon_core.entries import Admitted, Again, Cancel, Dependency, Epoch, Redriven, Settled, Withdrawn
from echelon_core.life import LIVE, Event, Stage, status, step
from echelon_core.runs import delegation_of
from echelon_web.readmodel.rows import (
    BUCKET_S,
    INLINE,
    NEVER,
    STATUSES,
    Delegated,
    LedgerEntry,
    Rates,
    Row,
    Verdicts,
    Writes,
    fact,
    submitted,
)

_STATUS: Final = {stage: STATUSES.index(status(stage)) for stage in Stage}
_AFTER: Final = {
    event: {stage: step(stage, event) or stage for stage in Stage} for event in Event
}  # the table of core/life, by event: what comes too late changes nothing
_DELEGATED: Final = _AFTER[Event.DELEGATED]
_STARTED: Final = _AFTER[Event.STARTED]


class Projection:
    """`rows` are those at hand: live ones, what this batch touches, what the last one ended.

    The caller puts in what is missing (`wanted` says which) before it applies, and writes what `take` gives.
    """

    def __init__(self, counts: dict[Stage, int]) -> None:
        self.counts = counts
        self.rows: dict[int, Row] = {}
        self._new: dict[int, tuple[Submission, float, Row]] = {}  # admitted in this batch
        self._touched: list[tuple[int, Row, Stage]] = []  # known before it, with their stage then
        self._done: list[int] = []  # ended in the last batch
        self._writes = Writes()

    # ------------------------------------------------------------------ what a batch needs to know
    def unwritten(self) -> int:
        """Rows that `take` would give."""
        return len(self._new) + len(self._touched)

    def wanted(self, refs: Iterable[int]) -> set[int]:
        return set(refs).difference(self.rows)

    # ------------------------------------------------------------------------------- the ledger
    def ledger(self, seq: int, entry: LedgerEntry) -> None:
        match entry:
            case Admitted():
                self._admitted(seq, entry)
            case Delegated():
                self._delegated(seq, entry)
            case Settled():
                self._settled(seq, entry)
            case Cancel():
                for ref, _ in entry.tasks:
                    if row := self._touch(ref):
                        row.cancel = f"{entry.by}: {entry.reason}" if entry.reason else entry.by
            case Withdrawn():
                for ref, delegation in entry.tasks:
                    if (row := self._touch(ref)) and row.delegation == delegation:
                        self._step(row, Event.RETURNED)
                        row.delegation, row.region, row.closed, row.due = 0, "", 0, 0.0
            case Redriven():
                self._redriven(seq, entry)
            case Epoch():
                pass

    def _admitted(self, seq: int, entry: Admitted) -> None:
        ref = first = seq << 10
        rows, new, at, ready = self.rows, self._new, entry.at, Stage.READY
        for group in entry.groups:
            needs = group.dependencies
            for index, task in enumerate(group.tasks):
                row = rows[ref] = Row(ready, True)
                new[ref] = (task, at, row)
                if needs and (on := needs.get(index)):
                    row.stage = self._depends(ref, on)
                ref += 1
        self._rate(at, "").admitted += ref - first

    def _depends(self, ref: int, on: list[Dependency]) -> Stage:
        self._writes.dependencies.extend((ref, place, other.ref) for place, other in enumerate(on))
        return Stage.WAITING if any(other.kind != "ok" for other in on) else Stage.READY

    def _delegated(self, seq: int, entry: Delegated) -> None:
        at, region, waiting = entry.at, entry.region, Stage.WAITING
        rows, touch = self.rows, self._touch
        for item in entry.items:
            ref = item.ref
            row = rows.get(ref)
            if row is None or not row.dirty:
                row = touch(ref)
                if row is None:
                    continue
            if row.stage is waiting:
                self._step(row, Event.BECAME_READY)
            row.stage = _DELEGATED[row.stage]
            row.delegation = seq
            row.placements += 1
            row.region = region
            row.placed = at
        self._rate(at, region).placed += len(entry.items)

    def _settled(self, seq: int, entry: Settled) -> None:
        rows, touch, at, completed = self.rows, self._touch, entry.at, Stage.COMPLETED
        for where in entry.ok:
            region, sequence = where.region, where.sequence
            for ref in where.refs:
                row = rows.get(ref)
                if row is None or not row.dirty:
                    row = touch(ref)
                    if row is None:
                        continue
                if row.stage in LIVE:  # an `ok` is law, whatever stage it finds
                    row.stage = completed
                    row.ended = at
                    row.end_seq = seq
                    row.end_region = region
                    row.end_sequence = sequence
            self._rate(at, region).completed += len(where.refs)
        for end in entry.ended:
            self._ended(seq, entry, end)
        for moved in entry.moved:
            if (row := self._touch(moved.ref)) is None:
                continue
            row.charged, row.losses = max(row.charged, moved.charged), max(row.losses, moved.losses)
            if moved.returned:
                self._step(row, Event.RETURNED)

    def _ended(self, seq: int, entry: Settled, end: End) -> None:
        rate = self._rate(entry.at, end.region or entry.region)
        if end.kind == "cancelled":
            event, stage = Event.CANCELLED, Stage.CANCELLED
            rate.cancelled += 1
        elif end.kind == "expired":
            event, stage = Event.EXPIRED, Stage.EXPIRED
            rate.failed += 1
        else:
            event, stage = Event.DIED, Stage.FAILED
            rate.failed += 1
        row = self._touch(end.ref)
        if row is None:
            return
        if stage is Stage.FAILED and row.stage is Stage.WAITING:
            event = Event.DEPENDENCY_FAILED
        if row.stage not in LIVE:
            return
        # The ledger is law: what it settles has ended, even where the table has no arrow.
        row.stage = step(row.stage, event) or stage
        row.ended, row.end_seq = entry.at, seq
        row.cause, row.detail = end.cause or None, end.detail or None
        row.end_region, row.end_sequence = end.region, end.sequence

    def _redriven(self, seq: int, entry: Redriven) -> None:
        row = self._touch(entry.ref)
        if row is None:
            return
        self._demote(entry.ref, row)
        stage = Stage.WAITING if any(on.kind != "ok" for on in entry.dependencies) else Stage.READY
        new = Row(stage, True, series=seq, placements=row.placements)
        for field in Row.__struct_fields__:
            setattr(row, field, getattr(new, field))
        if (admitted := self._new.get(entry.ref)) is not None:
            first, at, _ = admitted
            self._new[entry.ref] = (replace(entry.task, id=first.id, type=first.type), at, row)
        else:
            self._writes.renewed.append((entry.ref, entry.task))

    # ------------------------------------------------------------------------------ the regions
    def outcomes(self, region: str, sequence: int, told: Outcomes) -> None:
        worker = told.worker
        for start in told.starts:
            self._started(region, worker, start.ref, start.run, start.at)
        for ran in told.ran:
            self._ran(region, worker, sequence, ran)

    def _started(self, region: str, worker: str, ref: int, run: int, at: float) -> None:
        row = self._touch(ref)
        if row is None:
            return
        if not self._newest(ref, row, run):
            if run != row.run:
                self._writes.facts.append((ref, run, region, worker, at, None, None, None, None, None, None))
        else:
            row.run_region, row.worker, row.run_started = region, worker, at
        self._begun(row, run, at)
        if run > row.closed and delegation_of(run) == row.delegation:
            self._step(row, Event.STARTED)

    def _ran(self, region: str, worker: str, sequence: int, ran: Ran) -> None:
        state, ref, run, began = ran.status, ran.ref, ran.run, ran.started
        if state == HANDED_BACK:
            return
        row = self.rows.get(ref)
        if row is None or not row.dirty:
            row = self._touch(ref)
            if row is None:
                return
        if state != OK:
            self._writes.facts.append(fact(region, worker, sequence, ran))
        if began <= 0:  # cancelled before it began
            return
        if not self._newest(ref, row, run):
            if run != row.run:
                if state == OK:
                    self._writes.facts.append(fact(region, worker, sequence, ran))
                self._begun(row, run, began)
                return
            if row.run_status != NEVER:  # told twice: the first counts
                return
        self._begun(row, run, began)
        if row.ended == 0 and run > row.closed and delegation_of(run) == row.delegation:
            row.stage = _STARTED[row.stage]
        row.run_region = region
        row.worker = worker
        row.run_started = began
        row.run_ended = ran.ended
        row.run_status = state
        row.run_sequence = sequence
        if state == OK:
            if ran.blob:
                row.result_blob = ran.blob
            else:
                row.result_bytes = size = len(ran.result)
                row.result = ran.result if size <= INLINE else None

    def _begun(self, row: Row, run: int, at: float) -> None:
        if (row.started == 0 or at < row.started) and delegation_of(run) > row.series:
            row.started = at

    def _newest(self, ref: int, row: Row, run: int) -> bool:
        """Is this run newer than the one that the row tells of? Then the row is free for it."""
        if run <= row.run or delegation_of(run) <= row.series:
            return False
        if row.run:
            self._demote(ref, row)
            row.run_ended, row.run_status, row.run_sequence = 0.0, NEVER, 0
            row.result, row.result_bytes, row.result_blob = None, 0, None
        row.run = run
        return True

    def _demote(self, ref: int, row: Row) -> None:
        """What the row tells of its run goes where the older runs are."""
        if row.run:
            begun = (ref, row.run, row.run_region, row.worker, row.run_started)
            known = row.run_status != NEVER
            ended = (row.run_ended, row.run_status) if known else (None, None)
            sequence = row.run_sequence if known else None
            self._writes.facts.append((*begun, *ended, None, None, None, sequence))

    def verdicts(self, region: str, entry: Verdicts) -> None:
        for again in entry.again:
            self._again(region, again)
        for end in entry.ended:
            row = self._touch(end.ref)
            if row is None:
                continue
            self._judged(region, end.ref, end.run, row, end.cause or end.kind, None)
            if delegation_of(end.run) > row.series:
                row.charged, row.losses = max(row.charged, end.charged), max(row.losses, end.losses)

    def _again(self, region: str, again: Again) -> None:
        row = self._touch(again.ref)
        if row is None:
            return
        run = again.run
        if again.cause != "handed_back":
            self._judged(region, again.ref, run, row, again.cause, again.at)
        if delegation_of(run) > row.series:
            row.charged, row.losses = max(row.charged, again.charged), max(row.losses, again.losses)
        if delegation_of(run) != row.delegation or run <= row.closed:
            return
        row.closed, row.due = run, again.at
        if row.run <= run:
            lost = again.cause in ("lost", "handed_back")
            self._step(row, Event.TAKEN_BACK if lost else Event.ERRED)

    def _judged(self, region: str, ref: int, run: int, row: Row, cause: str, due: float | None) -> None:
        self._writes.verdicts.append((ref, run, region, cause, due))
        if row.run == run:
            self._demote(ref, row)

    # ---------------------------------------------------------------------------------- the end
    def _touch(self, ref: int) -> Row | None:
        row = self.rows.get(ref)
        if row is not None and not row.dirty:
            row.dirty = True
            self._touched.append((ref, row, row.stage))
        return row

    def _step(self, row: Row, event: Event) -> None:
        row.stage = _AFTER[event][row.stage]

    def _rate(self, at: float, region: str) -> Rates:
        key = (int(at) // BUCKET_S, region)
        found = self._writes.rates.get(key)
        if found is None:
            found = self._writes.rates[key] = Rates()
        return found

    def take(self) -> Writes:
        """What this batch changes. Rows that ended with the batch before are forgotten."""
        writes, self._writes = self._writes, Writes()
        counts, done = writes.counts, []
        add, change = writes.new.append, writes.changed.append
        for ref, (task, at, row) in self._new.items():
            stage = row.stage
            counts[stage] = counts.get(stage, 0) + 1
            if stage not in LIVE:
                done.append(ref)
            row.dirty = False
            add((ref, task.id or None, task.type, _STATUS[stage], submitted(task, at), pack(row)))
        for ref, row, before in self._touched:
            stage = row.stage
            if stage is not before:
                counts[stage] = counts.get(stage, 0) + 1
                counts[before] = counts.get(before, 0) - 1
            if stage not in LIVE:
                done.append(ref)
            row.dirty = False
            change((_STATUS[stage], pack(row), ref))
        for stage, more in counts.items():
            self.counts[stage] = self.counts.get(stage, 0) + more
        again = set(done)
        for ref in self._done:
            if ref not in again and (old := self.rows.get(ref)) is not None and old.stage not in LIVE:
                del self.rows[ref]
        self._new, self._touched, self._done = {}, [], done
        return writes

    def shrink(self, keep: int) -> None:
        """Between batches: forget the oldest rows beyond `keep`; they are read back when touched."""
        if len(self.rows) > keep:
            for ref in list(self.rows)[: len(self.rows) - keep]:
                del self.rows[ref]
