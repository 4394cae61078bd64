"""The ended index: what it remembers, and that it remembers no more than the ledger says."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from echelon.wire.api import End, Where
from echelon_core.entries import Settled
from echelon_master.ended import EndedIndex
from echelon_master.tables import EndedTask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master" / "ended.db"


def settled(ok: list[int], ended: list[End] | None = None, sequence: int = 7) -> Settled:
    return Settled(1.0, "east", 1, [Where("east", sequence, ok)] if ok else [], ended or [])


def ref(seq: int, index: int = 0) -> int:
    return seq << 10 | index


async def test_an_ended_task_is_known_at_once_when_written_and_after_a_restart(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    named = EndedTask(ref(3, 1), "failed", "east", 9, "task-a", b"mark")
    index.feed(5, settled([ref(3)], [End(ref(3, 1), "failed", "error", "", "east", 9)]), [named])
    for _ in range(2):
        assert index.named(["task-a", "task-b"]) == {"task-a": named}
        assert index.by_ref(ref(3)) == EndedTask(ref(3), "ok", "east", 7)
        assert index.by_ref(ref(3, 1)) == EndedTask(ref(3, 1), "failed", "east", 9)
        assert index.by_ref(ref(3, 2)) is None
        await index.write(5)
    index.close()
    again = EndedIndex(path, "ledger 1")
    assert again.position == 5 and again.waiting == 0
    assert again.named(["task-a"]) == {"task-a": named}
    assert again.by_ref(ref(3)) == EndedTask(ref(3), "ok", "east", 7)
    again.close()


async def test_what_is_not_durable_is_not_written(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    index.feed(5, settled([ref(3)]), [EndedTask(ref(3), "ok", "east", 7, "a")])
    index.feed(6, settled([ref(4)]), [EndedTask(ref(4), "ok", "east", 7, "b")])
    await index.write(5)
    assert index.waiting == 1 and list(index.named(["a", "b"])) == ["b", "a"]
    index.close()
    again = EndedIndex(path, "ledger 1")
    assert list(again.named(["a", "b"])) == ["a"] and again.by_ref(ref(4)) is None
    again.close()


async def test_two_who_write_at_once_write_it_once(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    for seq in (5, 6, 7):
        index.feed(seq, settled([ref(seq)]), [])
    await asyncio.gather(index.write(5), index.write(7), index.write(6))
    assert index.position == 7 and index.waiting == 0
    index.close()


async def test_a_replay_of_what_is_written_changes_nothing(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    index.feed(5, settled([ref(3)]), [EndedTask(ref(3), "ok", "east", 7, "a")])
    await index.write(9)
    index.feed(5, settled([ref(3)]), [EndedTask(ref(3), "failed", "east", 7, "a")])
    assert index.waiting == 0 and index.named(["a"])["a"].kind == "ok"
    index.close()


async def test_of_a_redriven_task_the_newest_end_counts(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    index.feed(5, settled([], [End(ref(3), "failed")]), [EndedTask(ref(3), "failed", id="a")])
    await index.write(5)
    index.feed(8, settled([ref(3)]), [EndedTask(ref(3), "ok", id="a")])
    for _ in range(2):
        found = index.by_ref(ref(3))
        assert found is not None and found.kind == "ok" and index.named(["a"])["a"].kind == "ok"
        await index.write(8)
    index.close()


def test_an_index_of_another_ledger_or_a_broken_one_is_begun_anew(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    index.feed(5, settled([ref(3)]), [EndedTask(ref(3), "ok", id="a")])
    index.write_now(5)
    index.close()
    other = EndedIndex(path, "ledger 2")
    assert other.position == 0 and other.named(["a"]) == {}
    other.close()
    path.write_bytes(b"no database" * 1000)
    broken = EndedIndex(path, "ledger 2")
    assert broken.position == 0 and broken.named(["a"]) == {}
    broken.close()


def test_memory_does_not_grow_with_what_is_written(path: Path) -> None:
    index = EndedIndex(path, "ledger 1")
    began = time.perf_counter()
    for seq in range(1, 101):
        index.feed(seq, settled([ref(seq, i) for i in range(1000)]), [])
    index.write_now(100)
    print(f"{(time.perf_counter() - began) / 100_000 * 1e6:.2f} µs an ended task without an id")
    assert index.waiting == 0 and not index._fed and not index._new
    assert index.by_ref(ref(50, 999)) is not None
    index.close()
