"""The bodies that founding documents print work exactly so, under both paths; the mistakes are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cluster import Cluster

KEYS = ("task_id", "status", "worker_id", "created_at", "started_at", "completed_at", "result", "error")
PREFIXES = ["/api", "/api/v1"]


def under(prefix: str, body: str) -> bytes:
    """Each path has ids of its own."""
    return body.replace("%", "v1-" if prefix.endswith("v1") else "").encode()


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_the_first_body_with_everything_in_it(shared: Cluster, prefix: str) -> None:
    body = under(
        prefix,
        '{"task_id": "%unique-task-id", "task_type": "processing", "payload": {"data": "task-specific-data",'
        ' "parameters": {}},\n "priority": 1, "dependencies": [], "timeout": 300}',
    )
    status, task = await shared.post(f"{prefix}/tasks", body)
    assert status == 202 and task["status"] in ("pending", "running", "completed"), "as it is by now"
    assert set(KEYS) <= set(task)
    ended = await shared.ended(task["task_id"])
    assert ended["result"] == {"data": "task-specific-data", "parameters": {}}
    again, same = await shared.post(f"{prefix}/tasks", body)
    assert (again, same["task_id"]) == (200, task["task_id"])


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_camel_case_and_a_string_as_payload(shared: Cluster, prefix: str) -> None:
    status, task = await shared.post(
        f"{prefix}/tasks", b'{"taskType": "DATA_PROCESSING", "payload": "sample data"}'
    )
    assert status == 202
    assert (await shared.ended(task["task_id"]))["result"] == {"text": "sample data"}


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_dependant_that_names_its_input(shared: Cluster, prefix: str) -> None:
    first = under(prefix, '{"task_id": "%task-a", "task_type": "echo", "payload": {"value": [1, 2]}}')
    assert (await shared.post(f"{prefix}/tasks", first))[0] == 202
    named = "v1_task_a" if prefix.endswith("v1") else "task_a"
    body = under(
        prefix,
        '{"task_id": "%task-b", "dependencies": ["%task-a"], "task_type": "analysis",'
        ' "payload": {"input": "result_from_' + named + '"}}',
    )
    assert (await shared.post(f"{prefix}/tasks", body))[0] == 202
    ended = await shared.ended(json.loads(body)["task_id"])
    assert ended["result"] == {"input": [1, 2]}


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_an_urgent_one_without_payload(shared: Cluster, prefix: str) -> None:
    body = under(prefix, '{"task_id": "%urgent-task", "priority": 10, "task_type": "critical_analysis"}')
    assert (await shared.post(f"{prefix}/tasks", body))[0] == 202
    assert (await shared.ended(json.loads(body)["task_id"]))["result"] == "at once"


async def test_a_schedule_is_refused_in_words_until_it_is_built(shared: Cluster) -> None:
    body = b'{"name": "send-email", "payload": {"to": "a@example.org"}, "schedule": "*/5 * * * *"}'
    status, problem = await shared.post("/api/tasks", body)
    assert (status, problem["code"]) == (422, "not_yet") and problem["errors"][0]["field"] == "schedule"


async def test_the_list_that_founding_documents_ask_for(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_type": "nobody-offers-this-one"})
    listed = await shared.get("/api/tasks?status=pending&limit=10&offset=0")
    assert listed["items"] and all(set(KEYS) <= set(task) for task in listed["items"])


BAD: dict[str, tuple[bytes, int, str]] = {  # what -> (body, status, field)
    "no JSON": (b"{", 400, "body"),
    "NaN": (b'{"task_type": "echo", "payload": NaN}', 400, "body"),
    "a key twice": (b'{"task_type": "echo", "task_type": "add"}', 400, "body"),
    "no type": (b"{}", 422, "task_type"),
    "a type with spaces": (b'{"task_type": "no spaces"}', 422, "task_type"),
    "a number as type": (b'{"task_type": 5}', 422, "task_type"),
    "priority 0": (b'{"task_type": "echo", "priority": 0}', 422, "priority"),
    "priority 11": (b'{"task_type": "echo", "priority": 11}', 422, "priority"),
    "a word for priority": (b'{"task_type": "echo", "priority": "soonish"}', 422, "priority"),
    "a negative timeout": (b'{"task_type": "echo", "timeout": -1}', 422, "timeout"),
    "a timeout of a year": (b'{"task_type": "echo", "timeout": 31536000}', 422, "timeout"),
    "a bad id": (b'{"task_type": "echo", "task_id": "a b"}', 422, "task_id"),
    "a reserved id": (b'{"task_type": "echo", "task_id": "t-0000000000100"}', 422, "task_id"),
    "itself": (b'{"task_type": "echo", "task_id": "i", "dependencies": ["i"]}', 422, "dependencies[0]"),
    "an unknown one": (b'{"task_type": "echo", "dependencies": ["never-seen"]}', 422, "dependencies[0]"),
    "a misspelt field": (b'{"task_type": "echo", "prioritty": 1}', 422, "prioritty"),
    "a cycle": (
        b'[{"task_type": "echo", "task_id": "x", "dependencies": ["y"]},'
        b' {"task_type": "echo", "task_id": "y", "dependencies": ["x"]}]',
        422,
        "tasks[0].dependencies",
    ),
    "an id twice": (
        b'[{"task_type": "echo", "task_id": "z"}, {"task_type": "echo", "task_id": "z"}]',
        422,
        "tasks[1].task_id",
    ),
    "one bad among good ones": (
        b'[{"task_type": "echo", "task_id": "half"}, {"task_type": "echo", "priority": 99}]',
        422,
        "tasks[1].priority",
    ),
    "an integer of 65 bits": (b'{"task_type": "echo", "payload": 36893488147419103232}', 422, "body"),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_names_the_field_and_the_mend(shared: Cluster, what: str) -> None:
    body, expected, field = BAD[what]
    status, problem = await shared.post("/api/tasks", body)
    assert status == expected, problem
    assert field in [error["field"] for error in problem["errors"]], problem
    assert problem["code"] and problem["detail"] and all(error["message"] for error in problem["errors"])


async def test_every_bad_field_is_named_at_once(shared: Cluster) -> None:
    body = b'{"task_type": "no spaces", "task_id": "a b", "priority": 99, "timeout": 0, "colour": "red"}'
    status, problem = await shared.post("/api/tasks", body)
    fields = {error["field"] for error in problem["errors"]}
    assert status == 422 and fields == {"task_type", "task_id", "priority", "timeout", "colour"}


async def test_nothing_of_a_refused_request_was_admitted(shared: Cluster) -> None:
    await shared.post("/api/tasks", BAD["one bad among good ones"][0])
    status, _ = await shared.ask("GET", "/api/tasks/half")
    assert status == 404


async def test_one_id_with_other_content_is_a_conflict_that_names_the_fields(shared: Cluster) -> None:
    first: dict[str, Any] = {"task_id": "conflict-1", "task_type": "of-tomorrow", "payload": {"value": 1}}
    assert (await shared.post("/api/tasks", first))[0] == 202
    assert (await shared.post("/api/tasks", first))[0] == 200
    status, problem = await shared.post("/api/tasks", {**first, "priority": 9, "payload": {"value": 2}})
    assert (status, problem["code"]) == (409, "task_id_conflict")
    assert {error["field"] for error in problem["errors"]} == {"priority", "payload"}


async def test_a_conflict_with_an_ended_task_names_all_fields_that_may_differ(shared: Cluster) -> None:
    """Of an ended task only the mark of its submission is kept."""
    first: dict[str, Any] = {"task_id": "conflict-2", "task_type": "echo", "payload": {"value": 1}}
    assert (await shared.post("/api/tasks", first))[0] == 202
    await shared.ended("conflict-2")
    assert (await shared.post("/api/tasks", first))[0] == 200
    status, problem = await shared.post("/api/tasks", {**first, "priority": 9})
    assert status == 409 and "priority" in {error["field"] for error in problem["errors"]}
