"""Kills each process once while tasks run, and judges what became of the tasks.

    python tests/e2e/kill.py                         20,000 tasks, every process and every kind of child
    python tests/e2e/kill.py --tasks 6000 --seed 7
    python tests/e2e/kill.py --plant runs-not-checked     with a bug planted: the judge must see it
    python tests/e2e/kill.py --judge FOLDER          judge again what an earlier run left

For every victim a wave of tasks is submitted by three clients, and while it is under way the victim dies.
The next wave comes when it is back. At the end all faults have ceased, everything admitted must end, and the
judge is asked (checker.py says what it looks for). Exit 0: sound.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)] if str(HERE.parent) not in sys.path else []

from e2e import evidence  # noqa: E402
from e2e.checker import Verdict, judge  # noqa: E402
from e2e.load import Customer, History  # noqa: E402
from e2e.nemesis import Nemesis  # noqa: E402
from support.cluster import Cluster  # noqa: E402
from support.eventually import eventually  # noqa: E402

PLANTS = HERE.parent / "support/plants"
CUSTOMERS = ("ana", "ben", "cleo")
SETTLE_S = 90.0
LIVE = ("pending", "running")


class Plan(NamedTuple):
    tasks: int
    seed: int
    victims: int = 0  # 0 = all
    plant: str = ""


async def run(plan: Plan, folder: Path) -> Verdict:
    """One kill run in `folder`, which keeps the evidence."""
    app = shutil.copy(HERE / "kill_app.py", folder / "app.py")
    environ = {"PYTHONPATH": str(PLANTS), "PLANT": plan.plant} if plan.plant else {}
    cluster = Cluster(folder, app=app, more=["--processes", "1"], environ=environ)
    history = History(folder / evidence.HISTORY)
    try:
        await cluster.start()
        nemesis = Nemesis(cluster, folder / evidence.KILLS, plan.seed)
        clients = [cluster.client() for _ in CUSTOMERS]
        customers = [
            Customer(name, client, history, plan.seed)
            for name, client in zip(CUSTOMERS, clients, strict=True)
        ]
        await _under_fire(plan, nemesis, customers)
        await _calm(cluster, customers)
        await _gather(cluster, folder)
        for client in clients:
            await client.close()
        if cluster.alive():
            print(f"stopped with exit code {await cluster.stop()}")
        return await asyncio.to_thread(lambda: judge(evidence.load(folder)))
    finally:
        history.close()
        cluster.end()


async def _under_fire(plan: Plan, nemesis: Nemesis, customers: list[Customer]) -> None:
    victims = nemesis.victims()
    victims = victims[: plan.victims] if plan.victims else victims
    each = plan.tasks // len(victims)
    numbers = iter(range(plan.tasks + each))
    for victim in victims:
        share = [[next(numbers) for _ in range(each // len(customers))] for _ in customers]
        began = time.monotonic()
        waves = [
            asyncio.create_task(customer.wave(part)) for customer, part in zip(customers, share, strict=True)
        ]
        await asyncio.sleep(nemesis.chance.uniform(0.02, 0.5))
        await nemesis.strike(victim)
        back = time.monotonic() - began
        await asyncio.gather(*waves)
        took = time.monotonic() - began
        print(f"kill -9 {victim:24} back after {back:4.1f} s, wave in after {took:4.1f} s", flush=True)


async def _calm(cluster: Cluster, customers: list[Customer]) -> None:
    """No more faults: everything must end."""
    began = time.monotonic()
    admitted = sum(customer.admitted for customer in customers)

    async def ended() -> bool:
        left = 0
        for status in LIVE:
            page = await cluster.try_get(f"/api/tasks?status={status}&limit=1")
            left += 1 if page is None else int(page["total"])
        return left == 0

    try:
        await eventually(ended, timeout_s=SETTLE_S, every_s=0.2)
        print(f"{admitted} admitted tasks had ended {time.monotonic() - began:.1f} s after the last wave")
    except AssertionError:
        print(f"tasks are still live {SETTLE_S:.0f} s after the last wave")
    unread = sum([await customer.all_read(15.0) for customer in customers])
    if unread:
        print(f"{unread} results were awaited and never came")


async def _gather(cluster: Cluster, folder: Path) -> None:
    ids = await evidence.every_id(cluster)
    url = cluster.nats_url
    await evidence.write_final(url, ids, folder / evidence.FINAL)
    await evidence.write_reported(url, cluster.regions, folder / evidence.REPORTED)


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--victims", type=int, default=0, help="only so many of them")
    parser.add_argument("--plant", default="", help="a bug of tests/support/plants/bugs.py")
    parser.add_argument("--judge", type=Path, help="a folder that an earlier run left")
    parser.add_argument("--keep", action="store_true", help="keep the folder even if all was well")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.judge:
        verdict = judge(evidence.load(given.judge))
        print(verdict)
        return 0 if verdict.sound else 1
    folder = Path(tempfile.mkdtemp(prefix="echelon-kill-"))
    print(f"seed {given.seed}, folder {folder}")
    verdict = asyncio.run(run(Plan(given.tasks, given.seed, given.victims, given.plant), folder))
    print(verdict)
    if verdict.sound and not given.keep:
        shutil.rmtree(folder)
    else:
        print(f"the evidence is in {folder}")
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main())
