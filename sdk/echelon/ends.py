"""Who waits for which task, and what has ended. One inbox and one timer, however many wait.

A notice says that tasks have ended and where their results lie. Notices are hints and may be lost, so whoever
waits also asks: at the start (unless the notice cannot have been missed), after a reconnect, and every
ASK_S for all at once. Outcomes are read once per message, whoever of it is waited for. Nothing is kept for a
task that nobody awaits but its line in a bounded memory of recent notices.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

from echelon.errors import NotFound
from echelon.wire.api import Ask, End, Notice, notice
from echelon.wire.child import OK, Ran, outcomes
from echelon.wire.codec import pack
from echelon.wire.names import id_of

ASK_S: Final = 5.0
AGAIN_S: Final = 0.5
"""… and after a question that nobody answered."""
RECENT: Final = 100_000
KEPT_BYTES: Final = 16 << 20
"""Of messages of outcomes, for those that ask next about another task in the same one."""
_REFS_PER_ASK: Final = 10_000
_MISSING_S: Final = (0.05, 0.2, 0.5, 1.0)
"""An outcome that is not there may be on its way to this replica."""


class Ended(NamedTuple):
    """How a task ended. `end` None: well; then `ran` is there. Otherwise `ran` is its last run, if known."""

    ran: Ran | None
    end: End | None


Place = tuple[str, int]
"""(region, sequence) of a message of outcomes"""


class Ends:
    def __init__(
        self,
        ask: Callable[[bytes], Awaitable[bytes]],
        outcome: Callable[[str, int], Awaitable[bytes | None]],
        no_answer: type[Exception],
    ) -> None:
        """`ask` sends an Ask and returns a Notice; `outcome` reads a message; both raise `no_answer`."""
        self._ask = ask
        self._outcome = outcome
        self._no_answer = no_answer
        self.era = 0  # grows when a notice may have been missed or forgotten
        self.position = 0  # the ledger sequence up to which this client knows of its own tasks
        self._waiting: dict[int, list[asyncio.Future[Ended]]] = {}
        self._recent: OrderedDict[int, Place | End] = OrderedDict()
        self._read: OrderedDict[Place, tuple[dict[int, Ran], int]] = OrderedDict()
        self._read_bytes = 0
        self._reading: dict[Place, dict[int, End | None]] = {}
        self._new: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------ waiting
    def wait(self, ref: int, era: int) -> asyncio.Future[Ended]:
        """`era`: of the time of submission, or -1 if this client did not submit the task."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ended] = loop.create_future()
        self._waiting.setdefault(ref, []).append(future)
        future.add_done_callback(lambda done: self._forget(ref, done))
        known = self._recent.get(ref)
        if known is not None:
            self._heard({ref: known})
        elif era != self.era:
            if not self._new:
                loop.call_soon(self._ask_new)
            self._new.append(ref)
        if self._timer is None:
            self._look_again(ASK_S)
        return future

    def _forget(self, ref: int, future: asyncio.Future[Ended]) -> None:
        """Also when the waiter was cancelled."""
        waiters = self._waiting.get(ref)
        if waiters is not None and future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._waiting[ref]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for futures in list(self._waiting.values()):
            for future in list(futures):
                future.cancel()

    # ------------------------------------------------------------------------------------- asking
    def again(self) -> None:
        """The connection was lost for a while: whatever was announced meanwhile was missed."""
        self.era += 1
        self._start(self._ask_for(list(self._waiting)))

    def _ask_new(self) -> None:
        refs, self._new = self._new, []
        self._start(self._ask_for([ref for ref in refs if ref in self._waiting]))

    def _sweep(self) -> None:
        self._timer = None
        if self._waiting:
            self._look_again(ASK_S)
            self._start(self._ask_for(list(self._waiting)))

    def _look_again(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(after_s, self._sweep)

    async def _ask_for(self, refs: list[int]) -> None:
        for at in range(0, len(refs), _REFS_PER_ASK):
            try:
                answer = await self._ask(pack(Ask(refs[at : at + _REFS_PER_ASK], self.position)))
            except self._no_answer:
                self._look_again(AGAIN_S)
                return
            self._notice(notice(answer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------------------------ hearing
    def on_notice(self, data: bytes) -> None:
        """What came to the inbox."""
        told = notice(data)
        recent = self._recent
        for where in told.ok:
            recent.update(dict.fromkeys(where.refs, (where.region, where.sequence)))
        recent.update({end.ref: end for end in told.ended})
        if len(recent) > RECENT:
            self.era += 1  # who waits from now on for a task of before has to ask
            for _ in range(len(recent) - RECENT // 2):
                recent.popitem(last=False)
        if self._waiting:
            self._notice(told)

    def _notice(self, told: Notice) -> None:
        waiting = self._waiting
        heard: dict[int, Place | End] = {}
        for where in told.ok:
            place = (where.region, where.sequence)
            heard.update({ref: place for ref in where.refs if ref in waiting})
        heard.update({end.ref: end for end in told.ended if end.ref in waiting})
        self._heard(heard)

    def _heard(self, heard: dict[int, Place | End]) -> None:
        """These have ended, and somebody waits: read what became of them, once a message."""
        for ref, known in heard.items():
            end = known if isinstance(known, End) else None
            place = (end.region, end.sequence) if end is not None else known
            assert not isinstance(place, End)
            if not place[1]:
                self._tell(ref, Ended(None, end))
            elif place in self._read:
                self._tell(ref, Ended(self._read[place][0].get(ref), end))
            elif place in self._reading:
                self._reading[place][ref] = end
            else:
                self._reading[place] = {ref: end}
                self._start(self._fetch(place))

    async def _fetch(self, place: Place) -> None:
        try:
            data = await self._outcome(*place)
            for pause in _MISSING_S:
                if data is not None:
                    break
                await asyncio.sleep(pause)
                data = await self._outcome(*place)
        except self._no_answer:
            del self._reading[place]
            self._look_again(AGAIN_S)
            return
        except BaseException:
            del self._reading[place]
            raise
        wanted = self._reading.pop(place)
        if data is None:
            for ref, end in wanted.items():
                if end is not None:
                    self._tell(ref, Ended(None, end))
                else:
                    self._fail(ref, NotFound("result of task", id_of(ref)))
            return
        runs: dict[int, Ran] = {}
        for ran in outcomes(data).ran:
            known = runs.get(ran.ref)
            if known is None or known.status != OK or ran.status == OK:
                runs[ran.ref] = ran
        self._read[place] = (runs, len(data))
        self._read_bytes += len(data)
        while self._read_bytes > KEPT_BYTES:
            self._read_bytes -= self._read.popitem(last=False)[1][1]
        for ref, end in wanted.items():
            self._tell(ref, Ended(runs.get(ref), end))

    def _tell(self, ref: int, ended: Ended) -> None:
        for future in self._take(ref):
            future.set_result(ended)

    def _fail(self, ref: int, error: Exception) -> None:
        for future in self._take(ref):
            future.set_exception(error)

    def _take(self, ref: int) -> Iterable[asyncio.Future[Ended]]:
        return [future for future in self._waiting.pop(ref, ()) if not future.done()]
