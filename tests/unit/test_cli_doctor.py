"""What the doctor makes of what it sees; each finding that is not good has a mend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from echelon_core import names
from echelon_core.entries import WorkerInfo
from echelon_ops import doctor
from echelon_ops.doctor import Finding
from echelon_ops.folder import Process, Run


def states(found: list[Finding]) -> list[str]:
    assert all(finding.mend for finding in found if finding.state != "ok")
    return [finding.state for finding in found]


def stream(size: int = 0, limit: int = -1) -> dict[str, Any]:
    return {"config": {"max_bytes": limit}, "state": {"bytes": size}}


def everything(*regions: str) -> dict[str, Any]:
    wanted = [*doctor.HUB]
    for region in regions:
        wanted += [names.outcomes(region), names.region_log(region), names.work(region)]
    return {name: stream() for name in wanted}


def worker(region: str, version: str = "1") -> WorkerInfo:
    return WorkerInfo("w", region, "default", "h", 1, 0.0, {"async": 2, "sync": 1}, {}, version=version)


@pytest.mark.parametrize(
    ("apart_s", "state"), [(0.0, "ok"), (0.4, "ok"), (-0.4, "ok"), (1.0, "warn"), (-1.0, "warn"), (30, "bad")]
)
def test_clocks(apart_s: float, state: str) -> None:
    assert states([doctor.clock(1000.0, 1000.0 - apart_s, 0.0)]) == [state]


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """Within the time that the answer took, the server may have read its clock at any moment."""
    assert doctor.clock(1003.0, 1000.0, 3.0).state == "ok"
    assert doctor.clock(1003.0, 1003.0, 3.0).state == "ok"


def test_an_old_server_and_one_without_jetstream() -> None:
    said = list(doctor.server({"version": "2.10.1"}, "nats://u:secret@h:1"))
    assert states(said) == ["bad", "bad"]
    assert "secret" not in said[0].said
    assert states(list(doctor.server({"version": "2.15.1", "jetstream": True}, "nats://h:1"))) == ["ok"]


def test_streams_that_are_missing_or_nearly_full() -> None:
    found = everything("east")
    assert states(list(doctor.streams(found, ["east"]))) == ["ok"]
    found[names.LEDGER] = stream(90, 100)
    assert states(list(doctor.streams(found, ["east"]))) == ["ok", "warn"]
    del found[names.work("east")]
    (missing, _) = doctor.streams(found, ["east"])
    assert missing.state == "bad" and names.work("east") in missing.said


def test_leaders() -> None:
    assert states(list(doctor.leaders(3, 0.001, {"east": True}))) == ["ok", "ok"]
    assert states(list(doctor.leaders(3, None, {"east": False}))) == ["bad", "bad"]
    assert states(list(doctor.leaders(None, None, {}))) == ["bad", "bad"]


def test_workers_and_their_versions() -> None:
    said = list(doctor.workers([worker("east"), worker("east", "0.9")], ["east", "west"], "1"))
    assert states(said) == ["ok", "warn", "warn"]
    assert said[0].said == "east: 2 with 6 slots"


def test_disk_and_processes() -> None:
    assert [doctor.disk(size, "/x").state for size in (2**40, 2**30, 2**20)] == ["ok", "warn", "bad"]
    run = Run(1, 0.0, "n", "u", "/d", [], {"web": Process(1, "l")})
    assert doctor.processes(run, {"web": True}).state == "ok"
    dead = doctor.processes(run, {"web": False, "master": True})
    assert dead.state == "warn" and "web" in dead.said and "/d/logs" in dead.mend


async def test_where_nothing_answers_it_says_so_and_stops(tmp_path: Path) -> None:
    begun = time.monotonic()
    (finding,) = await doctor.examine("nats://127.0.0.1:1", "http://127.0.0.1:1", None)
    assert finding.state == "bad" and finding.said.startswith("nothing answers")
    assert time.monotonic() - begun < 5
