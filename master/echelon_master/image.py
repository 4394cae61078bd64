"""The state as a value: its digest, and its image in chunks for a snapshot.

Pure. The digest names what counts and nothing else: not what payloads happen to be in memory, not the order
in which dicts were filled. An image is written in chunks so that neither side holds it whole: first a Head,
then pages of batches, each with the kinds that it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from echelon.wire.api import Options
from echelon.wire.codec import pack
from echelon_core.fold import digest_of
from echelon_master.state import MasterState, OnEnded
from echelon_master.tables import BACK, DOOMED, READY, Answered, Batch, Kin, Kind, Region, Task

FORMAT: Final = 1
TASKS_PER_PAGE: Final = 5_000


class Head(msgspec.Struct, array_like=True):
    format: int
    seq: int
    epoch: int
    ended: int
    regions: dict[str, Region]
    keys: list[tuple[float, list[tuple[str, Answered]]]]


class Row(msgspec.Struct, array_like=True, gc=False):
    """A task. `kind` is an index in its page's kinds."""

    index: int
    kind: int
    payload: bytes | None
    priority: int
    stage: int
    id: str
    mark: bytes
    kin: Kin | None
    region: str
    delegation: int
    charged: int
    losses: int
    wanted: bool


class BatchRow(msgspec.Struct, array_like=True):
    seq: int
    inbox: str | list[tuple[int, str]]
    size: int  # of its table, 0 = a sparse one
    tasks: list[Row]


class Page(msgspec.Struct, array_like=True):
    kinds: list[tuple[str, Options]]
    batches: list[BatchRow]


_head: Final = msgspec.msgpack.Decoder(Head).decode
_page: Final = msgspec.msgpack.Decoder(Page).decode


# ---------------------------------------------------------------------- digest
def digest(state: MasterState) -> str:
    """Equal for equal states, whatever way they came about."""
    keys = ((key, a.first, a.count, sorted((a.known or {}).items())) for key, a in state.keys.items())
    return digest_of(
        [
            state.seq,
            state.epoch,
            state.live,
            state.ended,
            state.waiting_bytes,
            sorted((name, r.out, r.position, r.latest) for name, r in state.regions.items()),
            sorted(keys),
            [(at, names) for at, names in state.key_ages],
            [_canonical(ref, task) for ref, task in state.tasks()],
            [(seq, state.batches[seq].inbox) for seq in sorted(state.batches)],
            sorted(state.ids.items()),
            sorted(state.doomed),
            sorted(state.back),
        ]
    )


def _canonical(ref: int, task: Task) -> tuple[object, ...]:
    kin = task.kin or Kin()
    return (
        ref, task.kind.type, task.kind.options, task.priority, task.stage, task.id, task.mark, task.region,
        task.delegation, task.charged, task.losses, task.wanted, kin.names, kin.dependencies, kin.left,
        kin.dependants or [], kin.blob, kin.traceparent, kin.source, kin.doom,
    )  # fmt: skip


# ---------------------------------------------------------------------- writing
def chunks(state: MasterState) -> Iterator[bytes]:
    """The state, encoded. It must not change meanwhile."""
    keys = [(at, [(key, state.keys[key]) for key in names]) for at, names in state.key_ages]
    yield pack(Head(FORMAT, state.seq, state.epoch, state.ended, state.regions, keys))
    page = _PageWriter()
    for seq in sorted(state.batches):
        page.add(seq, state.batches[seq])
        if page.tasks >= TASKS_PER_PAGE:
            yield page.encoded()
            page = _PageWriter()
    if page.tasks:
        yield page.encoded()


class _PageWriter:
    def __init__(self) -> None:
        self.tasks = 0
        self._places: dict[tuple[str, Options], int] = {}
        self._batches: list[BatchRow] = []

    def add(self, seq: int, batch: Batch) -> None:
        rows = [
            Row(
                index, self._place(task.kind), task.payload, task.priority, task.stage, task.id, task.mark,
                task.kin, task.region, task.delegation, task.charged, task.losses, task.wanted,
            )
            for index, task in batch.rows()
        ]  # fmt: skip
        self.tasks += len(rows)
        size = len(batch.tasks) if isinstance(batch.tasks, list) else 0
        self._batches.append(BatchRow(seq, batch.inbox, size, rows))

    def _place(self, kind: Kind) -> int:
        return self._places.setdefault((kind.type, kind.options), len(self._places))

    def encoded(self) -> bytes:
        return pack(Page(list(self._places), self._batches))


# ---------------------------------------------------------------------- reading
def load(parts: Iterable[bytes], cache_bytes: int, on_ended: OnEnded) -> MasterState:
    """The state that `chunks` wrote.

    Raises:
        msgspec.DecodeError: this is no image.
        UnknownFormat: it is of another release.
    """
    state = MasterState(cache_bytes, on_ended)
    parts = iter(parts)
    head = _head(next(parts, b""))
    if head.format != FORMAT:
        raise UnknownFormat(f"an image of format {head.format}; this release reads {FORMAT}")
    state.seq, state.epoch, state.ended, state.regions = head.seq, head.epoch, head.ended, head.regions
    for at, answered in head.keys:
        state.key_ages.append((at, [key for key, _ in answered]))
        state.keys.update(answered)
    for part in parts:
        page = _page(part)
        for batch in page.batches:
            _restore(state, batch, page.kinds)
    return state


class UnknownFormat(Exception):
    """A snapshot that this release cannot read: recovery takes the log instead."""


def _restore(state: MasterState, row: BatchRow, kinds: list[tuple[str, Options]]) -> None:
    table: list[Task | None] | dict[int, Task | None] = [None] * row.size if row.size else {}
    for r in row.tasks:
        kind = state.kinds.of(*kinds[r.kind])
        kind.tasks += 1
        task = Task(
            kind, r.payload, r.priority, r.stage, r.id, r.mark, r.kin, r.region, r.delegation, r.charged,
            r.losses, r.wanted,
        )  # fmt: skip
        table[r.index] = task
        ref = row.seq << 10 | r.index
        if r.id:
            state.ids[r.id] = ref
        if r.payload:
            state.cached_bytes += len(r.payload)
            state.waiting_bytes += len(r.payload)
        if r.kin is not None:
            state.waiting_bytes += r.kin.payload_bytes
        if r.stage == READY:
            state.room.push(r.priority, kind.place, ref)
        elif r.stage == DOOMED:
            state.doomed[ref] = None
        elif r.stage == BACK:
            state.back[ref] = None
    state.batches[row.seq] = Batch(table, len(row.tasks), row.inbox)
    state.live += len(row.tasks)
