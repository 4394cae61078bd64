"""The read model says the same, however streams interleave, wherever batches end, whatever is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from echelon.wire.child import outcomes
from echelon_core.life import LIVE, Stage
from echelon_infra.jetstream.tail import Entry
from echelon_web.readmodel import query, rows
from echelon_web.readmodel.feed import Feed, Lane
from echelon_web.readmodel.project import Projection
from echelon_web.readmodel.store import Store
from support.web_histories import REGIONS, History, interleaved

Read = tuple[str, int, bytes]


def feed_of(store: Store) -> Feed:
    """As after a start: each lane begins where the file ends."""
    feed = Feed(store)
    for region in REGIONS:
        feed.lanes[region] = (
            Lane(f"outcomes.{region}", region),
            Lane(f"log.{region}", region, verdicts=True),
        )
    feed.ledger.stream = "ledger"
    at = store.positions()
    for lane in lanes(feed).values():
        lane.created, lane.position = at.get(lane.stream, ("x", 0))
    return feed


def lanes(feed: Feed) -> dict[str, Lane]:
    return {lane.stream: lane for lane in feed._all()}


def dump(db: sqlite3.Connection) -> object:
    """Everything that a reader can see."""
    found = query.with_attempts(db, query.tasks(db, None, 10_000))
    return (
        [(task.ref, task.id, task.type, asdict(task.submitted), shown(task)) for task in found],
        sorted((stage, count) for stage, count in query.counts(db).items() if count),
        [asdict(bucket) for bucket in query.rates(db, 0)],
        db.execute("SELECT * FROM dependencies ORDER BY ref, place").fetchall(),
    )


def shown(task: query.Task) -> object:
    """Of a run that waits for its successor it makes no difference where it stands."""
    row = asdict(task.row)
    hidden = {
        "run_ended",
        "run_status",
        "run_sequence",
        "run_region",
        "run_started",
        "worker",
        "run",
        "dirty",
    }
    attempts = [asdict(attempt) for attempt in task.attempts]
    return {name: value for name, value in row.items() if name not in hidden}, attempts


async def play(entries: Sequence[Read], random: Random, path: Path | None = None) -> object:
    """Read these with batches, writes, forgetting and, with a file, restarts at random places."""
    store = Store(path)
    feed = feed_of(store)
    unread = list(entries)
    while unread:
        for stream, seq, data in unread[: random.randint(1, 20)]:
            lane = lanes(feed)[stream]
            if seq > lane.position + len(lane.queue):
                lane.queue.append(Entry(seq, "", data, float(seq)))
            unread.pop(0)
        await feed._apply()
        if random.random() < 0.5:
            feed._write_at_once()
            feed.projection.shrink(random.choice((0, 2, 100)))
        if path is not None and random.random() < 0.2:  # killed: what was not written is read again
            store.close()
            store = Store(path)
            feed = feed_of(store)
            done = {stream: lane.position for stream, lane in lanes(feed).items()}
            unread = [entry for entry in entries if entry[1] > done[entry[0]]]
    feed._write_at_once()
    assert not any(lane.queue for lane in lanes(feed).values()), "something still waits"
    seen = dump(store.db)
    assert feed.projection.counts == {**feed.projection.counts, **query.counts(store.db)}
    store.close()
    return seen


def written(seed: int, steps: int) -> History:
    history = History(Random(seed))
    for _ in range(steps):
        history.step()
    return history


SEEDS = st.integers(0, 2**32)


@settings(max_examples=120)
@given(seed=SEEDS, steps=st.integers(1, 60), order=SEEDS)
async def test_any_interleaving_gives_the_same_rows(seed: int, steps: int, order: int) -> None:
    history = written(seed, steps)
    straight = await play(history.written, Random(0))
    assert await play(interleaved(history, Random(order)), Random(order)) == straight


@settings(max_examples=25)
@given(seed=SEEDS, steps=st.integers(1, 60), order=SEEDS)
async def test_restarts_repeat_nothing_and_lose_nothing(seed: int, steps: int, order: int) -> None:
    history = written(seed, steps)
    straight = await play(history.written, Random(0))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "read.db"
        assert await play(interleaved(history, Random(order)), Random(order), path) == straight


@settings(max_examples=60)
@given(seed=SEEDS, steps=st.integers(1, 80))
async def test_only_the_ledger_ends_a_task(seed: int, steps: int) -> None:
    """Live in the ledger is live here, ended there is ended here, and as it was settled there."""
    history = written(seed, steps)
    store = Store(None)
    feed = feed_of(store)
    for stream, seq, data in history.written:
        lanes(feed)[stream].queue.append(Entry(seq, "", data, 0.0))
    await feed._apply()
    wanted = {"ok": Stage.COMPLETED, "failed": Stage.FAILED, "cancelled": Stage.CANCELLED}
    for ref, task in history.tasks.items():
        row = feed.projection.rows[ref]
        assert row.stage is wanted[task.kind] if task.kind in wanted else row.stage in LIVE
    store.close()


def test_a_short_task_is_written_once() -> None:
    """Admitted, placed and ended in one batch: one row, no update, nothing beside it."""
    history = written(1, 0)
    history._admit()
    for task in list(history.tasks.values()):
        history._place(task)
        history._succeed(task)
    projection = Projection({})
    for stream, seq, data in history.written:
        match stream.split("."):
            case ["ledger"]:
                projection.ledger(seq, rows.ledger_entry(data))
            case ["outcomes", region]:
                projection.outcomes(region, seq, outcomes(data))
    writes = projection.take()
    assert len(writes.new) == len(history.tasks)
    assert not (writes.changed or writes.facts or writes.verdicts)
