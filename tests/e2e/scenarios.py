"""What may befall an Echelon while tasks run. After each, everything that was admitted must end.

kills          each process dies by SIGKILL once, a child of each worker, the server and the whole too
lost-answers   nobody dies; of the server's answers to workers some never arrive, so what was stored is
               sent again, and what is sent twice must count once
deposed        nobody dies; leaders lose their lease while they write, and a standby begins at once
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from e2e.companions import Companions
from e2e.load import MIX, Customer, Mix
from e2e.nemesis import Nemesis
from echelon_core import names
from echelon_infra.settings import Settings
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy import proxied


class Arena(NamedTuple):
    cluster: Cluster
    nemesis: Nemesis
    customers: list[Customer]
    companions: Companions
    folder: Path
    tasks: int
    rounds: int  # 0 = as many as there are victims
    victims: tuple[str, ...]  # empty = all
    settle_s: float  # how long the last task may take to end when all faults have ceased

    async def wave(self, numbers: range, mix: Mix = MIX) -> None:
        """These tasks, dealt to the clients."""
        hands = len(self.customers)
        parts = [numbers[first::hands] for first in range(hands)]
        waves = zip(self.customers, parts, strict=True)
        await asyncio.gather(*[customer.wave(part, mix) for customer, part in waves])


def say(what: str, began: float) -> None:
    print(f"{what:34} {time.monotonic() - began:5.1f} s", flush=True)


def shares(tasks: int, rounds: int) -> list[range]:
    each = tasks // rounds
    return [range(start, start + each) for start in range(0, each * rounds, each)]


async def calm(arena: Arena) -> None:
    """No more faults: everything must end."""
    began = time.monotonic()
    admitted = sum(customer.admitted for customer in arena.customers)

    async def ended() -> bool:
        return await live(arena.cluster) == 0

    try:
        await eventually(ended, timeout_s=arena.settle_s, every_s=0.2)
        say(f"{admitted} admitted tasks have ended", began)
    except AssertionError:
        say(f"{await live(arena.cluster)} tasks are still live", began)
    if unread := sum([await customer.all_read(10.0) for customer in arena.customers]):
        print(f"{unread} results were awaited and never came")


async def live(cluster: Cluster) -> int:
    """How many tasks have not ended; one more if nobody can say."""
    left = 0
    for status in ("pending", "running"):
        page = await cluster.try_get(f"/api/tasks?status={status}&limit=1")
        left += 1 if page is None else int(page["total"])
    return left


async def kills(arena: Arena) -> None:
    victims = list(arena.victims) or arena.nemesis.victims()
    for victim, numbers in zip(victims, shares(arena.tasks, len(victims)), strict=True):
        began = time.monotonic()
        wave = asyncio.create_task(arena.wave(numbers))
        await asyncio.sleep(arena.nemesis.chance.uniform(0.02, 0.5))
        await arena.nemesis.strike(victim)
        await wave
        say(f"kill -9 {victim}", began)
    await calm(arena)


LOST_SHARE: Final = 0.3
FLAKY: Final[Mix] = (("quick", 50), ("flaky", 50))


async def lost_answers(arena: Arena) -> None:
    """`up` has no workers here; those of the scenario see the server through a proxy that loses answers."""
    chance = random.Random(arena.nemesis.chance.random())
    stored = names.outcomes("").encode()

    def swallow(subject: str, payload: bytes) -> bool:
        return stored in payload and b'"seq"' in payload and chance.random() < LOST_SHARE

    async with proxied(arena.cluster.nats_url) as proxy:
        for region in arena.cluster.regions:
            app = str(arena.folder / "app.py")
            told = Settings(nats_url=proxy.url, region=region, app=app, processes=1)
            arena.companions.start(f"worker-{region}", "worker", told)
        await eventually(lambda: _all_there(arena.cluster), timeout_s=30, every_s=0.1)
        proxy.swallow = swallow
        for numbers in shares(arena.tasks, arena.rounds or 5):
            began = time.monotonic()
            await arena.wave(numbers, FLAKY)
            await asyncio.sleep(1.0)
            say(f"{proxy.swallowed} answers lost so far", began)
        await calm(arena)
        arena.companions.end()


async def _all_there(cluster: Cluster) -> bool:
    found = await cluster.try_get("/api/workers")
    return found is not None and len(found["items"]) >= len(cluster.regions)


async def deposed(arena: Arena) -> None:
    """A standby for the master and for each region; then leaders lose their leases in the midst of it."""
    url = arena.cluster.nats_url
    told = Settings(nats_url=url, data=arena.folder / "standby")
    arena.companions.start("standby-master", "master", told)
    keys = [names.master_lease()]
    for region in arena.cluster.regions:
        regional = msgspec.structs.replace(told, region=region)
        arena.companions.start(f"standby-{region}", "regional", regional)
        keys.append(names.region_lease(region))
    await asyncio.sleep(2.0)  # imports; a standby that is not there yet makes a round harmless, not wrong
    rounds = arena.rounds or 12
    for turn, numbers in enumerate(shares(arena.tasks, rounds)):
        began = time.monotonic()
        key = keys[0] if turn % 2 == 0 else keys[1 + (turn // 2) % (len(keys) - 1)]
        wave = asyncio.create_task(arena.wave(numbers))
        await asyncio.sleep(arena.nemesis.chance.uniform(0.02, 0.3))
        taken = await arena.nemesis.depose(key)
        await wave
        await asyncio.sleep(1.5)  # until the fallen leader stands by again
        say(f"{key} {'taken away' if taken else 'was free'}", began)
    await calm(arena)


SCENARIOS: Final[dict[str, Callable[[Arena], Awaitable[None]]]] = {
    "kills": kills,
    "lost-answers": lost_answers,
    "deposed": deposed,
}
NATURAL: Final = {
    "ack-before-puback": "kills",
    "runs-not-checked": "lost-answers",
    "one-marker": "deposed",
}
"""In which scenario a planted bug shows itself."""
