"""The last word on runs that no child will report: its own are dead, given back, or stopped unbegun."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from echelon.wire.child import CANCELLED, DIED, RETIRED, TIMEOUT, Error, Ran, bundle
from echelon.wire.codec import pack
from echelon_worker.autopsy import autopsy
from echelon_worker.children.child import Child
from echelon_worker.held import Held, RunKey
from echelon_worker.outcomes import keys_of

_MESSAGE_CHARS = 500


def keys(held: Held) -> list[RunKey]:
    """The runs of a message, in order. Opens the bundle: not for the hot path."""
    return [(run.ref, run.run) for run in bundle(held.data).runs]


def untouched(runs: Iterable[RunKey], status: int) -> list[bytes]:
    """Encoded ends of runs that never began: HANDED_BACK or CANCELLED."""
    return [pack(Ran(ref, run, status, b"", 0.0, 0.0)) for ref, run in runs]


def last_words(child: Child) -> Iterator[tuple[Held, list[bytes]]]:
    """Of each bundle that a dead child had: the encoded ends of the runs that it has not reported."""
    page = child.page
    now = time.time()
    begun = {(one.ref, one.run): one.at for one in child.begun}
    if page.busy:
        begun[(page.ref, page.run)] = now - (time.monotonic() - page.started)
    orderly = child.exit_code in (0, RETIRED)
    for held in child.bundles.values():
        reported = {key for count, items in held.reported for key in keys_of(count, items)}
        unreported = [key for key in keys(held) if key not in reported]
        yield (
            held,
            [
                pack(Ran(*key, status, b"", *_times(begun.get(key), now), _error(child, status)))
                for key, status in autopsy(unreported, page, begun, child.killed, orderly=orderly)
            ],
        )


def _times(began: float | None, now: float) -> tuple[float, float]:
    return (0.0, 0.0) if began is None else (began, now)


def _error(child: Child, status: int) -> Error | None:
    if status == TIMEOUT:
        return Error("Timeout", f"The task ran longer than its timeout of {child.page.timeout_s:g} s.")
    if status == DIED:
        said = child.output.end
        message = f"The process was {child.cause} while it ran."
        if said:
            message = f"{message} It printed last: {said[-_MESSAGE_CHARS:]}"
        return Error("ProcessDied", message[:_MESSAGE_CHARS], said)
    return Error("Cancelled", "It was cancelled and its process ended.") if status == CANCELLED else None
