"""The law both schedulers obey: entries are decided, then applied; only `apply` changes state.

    decide(state, inputs, now) -> steps       only looks; pure; the clock is passed in
    apply(state, seq, entry)                  alone changes state; obeys the entry whatever policy wrote it

Replay of the log must give the live state: equal `digest()`, after any kill, under any hash seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

Effect = Callable[[int], None]
"""What the world may see of an entry once it is durable; called with the entry's sequence. Must not raise."""

EntryT_contra = TypeVar("EntryT_contra", contravariant=True)
EntryT = TypeVar("EntryT")
InputsT_contra = TypeVar("InputsT_contra", contravariant=True)


class Step(NamedTuple):
    """One decision. `entry` None: nothing to write; the effects follow what was written before."""

    subject: str
    entry: Any | None
    effects: Sequence[Effect] = ()


class Fold(Protocol[InputsT_contra, EntryT_contra]):
    def decide(self, inputs: InputsT_contra, now: float) -> Iterator[Step]:
        """Look at the state and say what follows. Lazy: each step sees what the one before it did."""
        ...

    def apply(self, seq: int, entry: EntryT_contra) -> None:
        """Obey the entry."""
        ...


_canonical = msgspec.msgpack.Encoder(order="deterministic").encode


def digest_of(canonical: object) -> str:
    """A short name of a state. Give it sorted lists, never a set or a dict in arrival order."""
    return hashlib.blake2b(_canonical(canonical), digest_size=16).hexdigest()
