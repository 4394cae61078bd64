"""A child is dead: what becomes of each run that it held and had not reported?

The guilty pays, and nobody else:
* whom it was ended for (timeout, order) gets that status;
* died by itself: the run that had the thread (the shared page still names it) died, and is charged;
* all others go back uncharged, also those that had begun, or had ended a moment ago and not been told of: it
  was not their doing. They may be executed again, as after the crash of a whole worker. A killer is charged
  each time, so it cannot kill for ever.

Killed while nobody had the thread (the kernel took it, a thread that a run left behind): then whoever had
begun is charged, if anybody had, for it was probably one of them. A child that ended orderly left nobody
guilty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from echelon.wire.child import DIED, HANDED_BACK, Executing
from echelon_worker.deadlines import Kill
from echelon_worker.held import RunKey


def autopsy(
    unreported: Iterable[RunKey],
    page: Executing,
    begun: Collection[RunKey],
    killed: Kill | None,
    *,
    orderly: bool = False,
) -> Iterator[tuple[RunKey, int]]:
    """The status of each run, in the order given.

    `begun`: those known to have begun and not ended; `orderly`: the child exited by its own decision.

    >>> page = Executing(7, ref=1, run=9, started=0.0, timeout_s=300.0)
    >>> dict(autopsy([(1, 9), (2, 9)], page, begun=[], killed=None)) == {(1, 9): DIED, (2, 9): HANDED_BACK}
    True
    """
    status = DIED
    guilty: Collection[RunKey] = begun
    if killed is not None:
        guilty, status = ((killed.ref, killed.run),), killed.status
    elif page.busy:
        guilty = ((page.ref, page.run),)
    elif orderly:
        guilty = ()
    for key in unreported:
        yield key, status if key in guilty else HANDED_BACK
