"""A web node on a real server: what users ask over HTTP, what programs ask over NATS, and its own end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from echelon.wire.api import Ask, Get, get_answer, notice
from echelon.wire.codec import pack
from echelon.wire.names import GET, RESULT
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.settings import Settings, hand_down
from support.eventually import eventually
from support.web_world import MAIN, REGION, World, web_world

KILLED = ("k1", "k2", "k3", "k4")
FOUNDING = ("task_id", "status", "worker_id", "created_at", "started_at", "completed_at", "result", "error")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for all tests of this file: each has ids of its own."""
    async with web_world(tmp_path_factory.mktemp("web")) as made:
        await made.tiers.staff("add")
        await made.ready()
        yield made


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    made: dict[str, Any] = answer.json()
    assert made["code"] == code and made["status"] == status and made["title"] and made["detail"], made
    return made


async def test_the_life_of_a_task_over_http(world: World) -> None:
    tiers, http = world.tiers, world.http
    answer = await http.post("/api/tasks", json={"task_id": "life", "task_type": "add", "payload": {"a": 2}})
    made = answer.json()
    assert answer.status_code == 202 and answer.headers["location"] == "/api/tasks/life"
    created = made["created_at"]
    assert [made[key] for key in FOUNDING] == ["life", "pending", None, created, None, None, None, None]
    assert created.endswith("Z") and made["stage"] == "ready" and made["reason"] is None

    again = await http.post("/api/tasks", json={"name": "add", "payload": {"a": 2}, "task_id": "life"})
    assert again.status_code == 200 and again.json()["created_at"] == created
    other = await http.post("/api/tasks", json={"task_type": "add", "payload": {"a": 3}, "task_id": "life"})
    problem(other, 409, "task_id_conflict")

    ref = tiers.ids["life"]
    await tiers.place(ref)
    await tiers.start(ref)
    running = await world.until("life", status="running")
    assert running["worker_id"] == "w-1" and running["started_at"] and running["region"] == REGION
    await tiers.succeed(ref, result=b'{"sum":5}')
    done = await world.until("life", status="completed")
    assert done["result"] == {"sum": 5} and done["completed_at"] >= done["started_at"]
    (attempt,) = done["attempts"]
    assert attempt["outcome"] == "success" and attempt["execution_time_ms"] > 0

    refused = problem(await http.post("/api/tasks/life/cancel"), 409, "already_ended")
    assert refused["task"]["result"] == {"sum": 5}


async def test_failures_retries_and_their_reasons(world: World) -> None:
    tiers = world.tiers
    await world.submit({"task_id": "fails", "task_type": "add", "retries": 1})
    ref = tiers.ids["fails"]
    await tiers.place(ref)
    await tiers.err(ref, charged=1, due_s=60)
    waits = await world.until("fails", stage="retrying")
    assert waits["status"] == "pending" and waits["error"] is None and waits["next_run_at"]
    assert waits["last_error"]["type"] == "ValueError" and waits["reason"].startswith("Failed 1 of 2 times")

    await tiers.err(ref, charged=2, last=True)
    failed = await world.until("fails", status="failed")
    assert failed["error"]["message"].startswith("smtp 421") and "Traceback" in failed["error"]["traceback"]
    assert [attempt["outcome"] for attempt in failed["attempts"]] == ["failure", "failure"]

    answer = await world.http.post("/api/tasks/fails/retry", json={"reason": "smtp is back"})
    assert (
        answer.status_code == 202 and answer.json()["status"] == "pending" and answer.json()["error"] is None
    )
    await tiers.place(ref)
    await tiers.succeed(ref)
    assert len((await world.until("fails", status="completed"))["attempts"]) == 3


async def test_why_it_waits(world: World) -> None:
    made = await world.submit({"task_id": "odd", "task_type": "no.such"})
    assert made["reason"].startswith("No live worker offers 'no.such'.")
    made = await world.submit({"task_id": "after", "task_type": "add", "dependencies": ["odd"]})
    assert (made["stage"], made["dependencies"]) == ("waiting", ["odd"])
    assert made["reason"] == "Waits for 1 of 1 dependencies."
    cancelled = await world.http.post("/api/tasks/odd/cancel")
    assert cancelled.status_code == 202 and cancelled.json()["status"] == "cancelled"


async def test_lists_are_paged_filtered_and_say_when_they_are_cut(world: World) -> None:
    tiers, http = world.tiers, world.http
    before = (await http.get("/api/tasks?limit=1")).json()["total"]
    made = await world.submit([{"task_type": "add", "task_id": f"n{n}"} for n in range(5)])
    assert made["created"] == 5 and [item["task_id"] for item in made["items"]] == [f"n{n}" for n in range(5)]
    await tiers.place(tiers.ids["n0"])
    await tiers.succeed(tiers.ids["n0"])
    await world.until("n0", status="completed")

    async def listed(query: str) -> tuple[list[str], dict[str, Any]]:
        body = (await http.get(f"/api/v1/tasks?{query}")).json()
        return [item["task_id"] for item in body["items"]], body

    names, body = await listed("limit=2")
    assert names == ["n4", "n3"] and body["total"] == before + 5 and body["truncated"] is False
    assert (await listed(f"limit=2&cursor={body['next']}"))[0] == ["n2", "n1"]
    assert (await listed("limit=1&offset=4"))[0] == ["n0"]
    assert (await listed("status=COMPLETED"))[0][0] == "n0"
    assert "n0" not in (await listed("status=IN_PROGRESS"))[0]
    assert (await listed("status=pending"))[0][:4] == ["n4", "n3", "n2", "n1"]
    assert (await listed("limit=5000"))[1]["truncated"] is False
    for query, name in (
        ("state=x", "state"), ("status=odd", "status"), ("limit=0", "limit"), ("limit=x", "limit"),
        ("offset=-1", "offset"), ("limit=1&limit=2", "limit"), ("cursor=x", "cursor"),
    ):  # fmt: skip
        refused = problem(await http.get(f"/api/tasks?{query}"), 422, "invalid")
        assert refused["errors"][0]["field"] == name


async def test_refusals_are_problem_documents(world: World) -> None:
    http = world.http
    problem(await http.get("/api/tasks/nobody"), 404, "not_found")
    problem(await http.get("/api/nothing"), 404, "not_found")
    problem(await http.delete("/api/tasks/nobody"), 405, "method")
    problem(await http.post("/api/tasks/nobody/cancel"), 404, "not_found")
    problem(await http.post("/api/tasks", content=b"{"), 400, "malformed")
    refused = problem(await http.post("/api/tasks", json={"task_type": "x y", "prio": 1}), 422, "invalid")
    assert {error["field"] for error in refused["errors"]} == {"task_type", "prio"}
    problem(await http.post("/api/tasks", json={"task_type": "t", "schedule": "* * * * *"}), 422, "not_yet")
    key = {"Idempotency-Key": "k"}
    problem(await http.post("/api/tasks", json={"task_type": "t"}, headers=key), 422, "not_yet")
    problem(await http.get("/api/tasks", headers={"Echelon-Position": "x"}), 422, "invalid")
    problem(await http.get("/api/workers?x=1"), 422, "invalid")
    problem(await http.get("/ui/tasks?status=odd"), 422, "invalid")
    assert (await http.get("/ui/tasks/nobody")).status_code == 404
    problem(await http.get("/api/tasks", headers={"host": "evil.example"}), 421, "host")
    foreign = {"origin": "https://evil.example"}
    problem(await http.post("/api/tasks", json={"task_type": "t"}, headers=foreign), 403, "origin")
    headers = (await http.get("/ui/")).headers
    assert "script-src 'self'" in headers["content-security-policy"] and headers["x-frame-options"] == "DENY"
    assert (await http.get("/", follow_redirects=False)).headers["location"] == "/ui/"


async def test_large_payloads_and_results_go_by_the_object_store(world: World) -> None:
    tiers, large = world.tiers, "x" * 300_000
    await world.submit({"task_id": "large", "task_type": "add", "payload": large})
    ref = tiers.ids["large"]
    stored = tiers.tasks[ref]
    assert stored.payload == b"" and stored.blob.startswith("p-") and stored.payload_bytes == 300_002
    assert (await world.http.get("/ui/tasks/large/payload")).json() == large
    await Blobs(tiers.bus).put("r-1", json.dumps(large).encode())
    await tiers.place(ref)
    await tiers.succeed(ref, result=b"", blob="r-1")
    assert (await world.until("large", status="completed"))["result"] == large
    item = (await world.http.get("/api/tasks?limit=1")).json()["items"][0]
    assert item["result"] is None and item["result_omitted"] is True

    conflict = await world.http.post(
        "/api/tasks", json={"task_id": "large", "task_type": "add", "payload": 1}
    )
    problem(conflict, 409, "task_id_conflict")
    medium = "y" * 5000
    await world.submit({"task_id": "medium", "task_type": "add", "payload": medium})
    assert (await world.http.get("/ui/tasks/medium/payload")).json() == medium


async def test_programs_ask_over_nats(world: World) -> None:
    tiers = world.tiers
    await world.submit([{"task_type": "add", "task_id": name} for name in ("pa", "pb", "pc")])
    a, b, c = (tiers.ids[name] for name in ("pa", "pb", "pc"))
    await tiers.place(a, b, c)
    await tiers.succeed(a, result=b"5")
    await tiers.err(b, charged=1, last=True)
    position = tiers.ledger.durable
    told = notice(await tiers.bus.request(RESULT, pack(Ask([a, b, c, 99], position)), timeout_s=5))
    assert [(where.region, where.refs) for where in told.ok] == [(REGION, [a])]
    assert [(end.ref, end.kind, end.cause, end.region) for end in told.ended] == [
        (b, "failed", "error", REGION)
    ]
    answers = get_answer(await tiers.bus.request(GET, pack(Get(["pa", "nobody"], position)), timeout_s=5))
    assert json.loads(answers[0])["result"] == 5 and answers[1] == b""


async def test_workers_regions_and_health(world: World) -> None:
    tiers, http = world.tiers, world.http

    async def one(path: str) -> dict[str, Any]:
        body = (await http.get(path)).json()
        assert body["total"] == 1 and body["truncated"] is False
        (item,) = body["items"]
        found: dict[str, Any] = item
        return found

    worker = await one("/api/workers")
    assert (worker["worker_id"], worker["status"], worker["slots"]) == ("w-1", "active", {"async": 4})
    region = await one("/api/v1/regions")
    assert (region["region"], region["status"], region["workers"]) == (REGION, "up", 1)
    assert (await http.get("/health/live")).json()["status"] == "ok"
    tiers.leading = False

    async def unready() -> bool:
        answer = await http.get("/health/ready")
        return answer.status_code == 503 and answer.json()["checks"]["master"] == "not ok"

    await eventually(unready, 10)
    tiers.leading = True
    await world.ready()


async def test_a_killed_node_goes_on_where_it_was_and_a_deleted_file_is_made_anew(world: World) -> None:
    tiers = world.tiers
    await world.submit([{"task_type": "add", "task_id": name} for name in KILLED])
    refs = [tiers.ids[name] for name in KILLED]
    await tiers.place(*refs)
    await tiers.succeed(refs[0], refs[1], result=b"1")
    await tiers.err(refs[2], charged=1, due_s=60)
    await tiers.start(refs[3])

    async def everything() -> list[dict[str, Any]]:
        return [await world.task(name) for name in KILLED]

    await world.until("k4", status="running")
    await world.until("k3", stage="retrying")
    before = await everything()
    await world.stop(9)
    await tiers.succeed(refs[3])  # while nobody reads
    await world.start()
    await world.until("k4", status="completed")
    assert (await everything())[:3] == before[:3]
    after = await everything()
    assert await world.stop() == 0
    for path in (world.data / "web").glob("read.db*"):
        path.unlink()
    await world.start()
    await world.ready()
    await world.until("k4", status="completed")
    assert await everything() == after


async def test_a_page_is_live_and_does_not_keep_the_node_from_ending(world: World) -> None:
    await world.submit({"task_type": "add", "task_id": "live"})
    async with world.http.stream("GET", "/ui/live?page=overview&top=0") as stream:
        lines = stream.aiter_lines()
        first = [line async for line in _upto(lines, "live-latest")]
        assert any("live-verdict" in line for line in first)
        ended = asyncio.create_task(world.stop())
        rest = [line async for line in lines]
        assert "event: end" in rest
    began = time.monotonic()
    assert await ended == 0 and time.monotonic() - began < 3
    await world.start()


async def _upto(lines: Any, word: str) -> Any:
    async for line in lines:
        yield line
        if word in line:
            return


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    """Nothing else is needed to say so: no server, no stream."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(nats_url="nats://127.0.0.1:1", data=tmp_path, port=port, log_format="text")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", f"{MAIN} sys.exit(main(h()))"],
            env={**os.environ, **hand_down(settings)}, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode == 2
