"""Does harm to an Echelon while tasks run, and judges what became of the tasks.

    python tests/e2e/kill.py                         20,000 tasks; every process and kind of child dies once
    python tests/e2e/kill.py --tasks 6000 --seed 7
    python tests/e2e/kill.py --scenario deposed      leaders lose their lease instead (scenarios.py)
    python tests/e2e/kill.py --victims nats-server,nats-server,worker-east-1
    python tests/e2e/kill.py --plant one-marker      with a bug planted: the judge must see it
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
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)] if str(HERE.parent) not in sys.path else []

from e2e import evidence  # noqa: E402
from e2e.checker import Verdict, judge  # noqa: E402
from e2e.companions import Companions  # noqa: E402
from e2e.load import Customer, History  # noqa: E402
from e2e.nemesis import Nemesis  # noqa: E402
from e2e.scenarios import NATURAL, SCENARIOS, Arena  # noqa: E402
from support.cluster import Cluster  # noqa: E402

PLANTS = HERE.parent / "support/plants"
CUSTOMERS = ("ana", "ben", "cleo")
SETTLE_S = 60.0


class Plan(NamedTuple):
    tasks: int
    seed: int
    scenario: str = "kills"
    victims: tuple[str, ...] = ()
    rounds: int = 0
    plant: str = ""


async def run(plan: Plan, folder: Path) -> Verdict:
    """One run in `folder`, which keeps the evidence."""
    app = shutil.copy(HERE / "kill_app.py", folder / "app.py")
    planted = {"PYTHONPATH": str(PLANTS), "PLANT": plan.plant} if plan.plant else {}
    workers = 0 if plan.scenario == "lost-answers" else 1
    cluster = Cluster(folder, app=app, workers=workers, more=["--processes", "1"], environ=planted)
    companions = Companions(folder, cluster.environ)
    history = History(folder / evidence.HISTORY)
    try:
        await cluster.start()
        nemesis = Nemesis(cluster, folder / evidence.KILLS, plan.seed)
        clients = [cluster.client() for _ in CUSTOMERS]
        customers = [
            Customer(name, client, history, plan.seed)
            for name, client in zip(CUSTOMERS, clients, strict=True)
        ]
        arena = Arena(
            cluster, nemesis, customers, companions, folder, plan.tasks, plan.rounds, plan.victims, SETTLE_S
        )
        await SCENARIOS[plan.scenario](arena)
        await _gather(cluster, folder)
        for client in clients:
            await client.close()
        print(f"stopped with exit code {await cluster.stop()}")
        return await asyncio.to_thread(lambda: judge(evidence.load(folder)))
    finally:
        history.close()
        companions.end()
        cluster.end()


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
    parser.add_argument("--scenario", choices=SCENARIOS, help="default: kills, or what shows the plant")
    parser.add_argument("--victims", default="", help="these, in this order, with commas between")
    parser.add_argument("--rounds", type=int, default=0, help="of a scenario without victims")
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
    scenario = given.scenario or NATURAL.get(given.plant, "kills")
    victims = tuple(name for name in given.victims.split(",") if name)
    print(f"{scenario}, seed {given.seed}, folder {folder}")
    plan = Plan(given.tasks, given.seed, scenario, victims, given.rounds, given.plant)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then too
    verdict = asyncio.run(run(plan, folder))
    print(verdict)
    if verdict.sound and not given.keep:
        shutil.rmtree(folder)
    else:
        print(f"the evidence is in {folder}")
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main())
