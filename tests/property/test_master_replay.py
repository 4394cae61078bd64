"""The master's fold under any order of events: replay equals live, from the log and from snapshots."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from echelon_core.entries import ledger_entry
from echelon_master import image
from support.master_world import CACHE, World

HERE = Path(__file__).parent
PATHS = (str(HERE), str(HERE.parent))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_replay_equals_live_at_every_entry(data: st.DataObject) -> None:
    world = World(lambda n: data.draw(st.integers(0, n - 1)))
    for _ in range(data.draw(st.integers(1, 40))):
        world.step()
    world.coherent(world.state)
    world.coherent(world.replayed())
    world.answered()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_snapshot_and_the_tail_equal_the_whole_log(data: st.DataObject) -> None:
    world = World(lambda n: data.draw(st.integers(0, n - 1)))
    for _ in range(data.draw(st.integers(1, 25))):
        world.step()
    parts = list(image.chunks(world.state))
    at = world.seq
    restored = image.load(parts, CACHE, lambda seq, entry, named: None)
    assert image.digest(restored) == image.digest(world.state)
    world.coherent(restored)
    for _ in range(data.draw(st.integers(1, 20))):
        world.step()
    for seq, entry, digest in world.log:
        if seq > at:
            restored.apply(seq, ledger_entry(entry))
            assert image.digest(restored) == digest
    world.coherent(restored)


def chooser(seed: int) -> Callable[[int], int]:
    """Choices that look random and are the same everywhere."""

    def choose(n: int) -> int:
        nonlocal seed
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        return (seed >> 33) % n

    return choose


def long_run() -> str:
    """The bytes of a long run's log and of its last image, as a digest."""
    import hashlib

    world = World(chooser(7), check=False)
    for _ in range(1500):
        world.step()
    world.coherent(world.state)
    world.answered()
    assert world.replayed().live == world.state.live
    said = hashlib.blake2b(b"".join(data for _, data, _ in world.log))
    said.update(b"".join(image.chunks(world.state)))
    return f"{said.hexdigest()} {image.digest(world.state)} {len(world.log)} entries"


def test_two_hash_seeds_give_the_same_bytes() -> None:
    said = set()
    for seed in ("1", "2"):
        code = "from test_master_replay import long_run; print(long_run())"
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(PATHS)}
        said.add(subprocess.check_output([sys.executable, "-c", code], env=env, text=True))
    assert len(said) == 1
