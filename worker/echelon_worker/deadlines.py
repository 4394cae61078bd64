"""Whom to warn, whom to end, when. User code cannot be asked to stop, only its process can be killed.

A child ends most runs itself: coroutines at their timeout, and what an order stops. What it cannot end is
code that keeps the thread. That code is named on the page that the child shares with us, and this module
says when it has had long enough: its own timeout and `GRACE_S`, or `STOP_GRACE_S` after an order. A kill
takes the neighbours in the same child with it, so it comes last. What becomes of them: `autopsy`.

Times are `time.monotonic()`, as on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from echelon.wire.child import CANCELLED, TIMEOUT, Executing

GRACE_S: Final = 0.5
STOP_GRACE_S: Final = 2.0
BLOCKED_S: Final = 1.0
"""An event loop that stands still for so long is worth a warning: no coroutine beside it moves."""


class Look(NamedTuple):
    """A child's page, and since when it has been like this (what we saw, at the rate of our looks)."""

    page: Executing
    since: float


class Warn(NamedTuple):
    """This run blocks the event loop of its child."""

    ref: int
    blocked_s: float


class Kill(NamedTuple):
    """End the child: this run ends with `status` (TIMEOUT or CANCELLED), the others in it go back."""

    status: int
    ref: int
    run: int


def look(before: Look | None, page: Executing, now: float) -> Look:
    """What is known after another look at the page."""
    if before is not None and before.page == page:
        return before
    return Look(page, now)


def due(
    seen: Look, stops: Mapping[tuple[int, int], float], now: float, *, shared: bool
) -> Kill | Warn | None:
    """What must be done with a child now.

    `stops`: runs that were ordered to stop, with the time of the order; `shared`: other runs need its thread
    (the async lane). A page is believed when two looks saw it alike, for one may catch a write half done.
    """
    page = seen.page
    if not page.busy or seen.since >= now:
        return None
    if page.started + page.timeout_s + GRACE_S <= now:
        return Kill(TIMEOUT, page.ref, page.run)
    ordered = stops.get((page.ref, page.run))
    if ordered is not None and max(ordered, seen.since) + STOP_GRACE_S <= now:
        return Kill(CANCELLED, page.ref, page.run)
    if shared and now - seen.since >= BLOCKED_S:
        return Warn(page.ref, now - seen.since)
    return None
