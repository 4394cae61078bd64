"""What is sent to POST /api/tasks: founding bodies as they stand, and every bad field named with its mend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from echelon.errors import Invalid, Malformed, NotYet
from echelon.wire.api import Submission
from echelon_web.api import bodies


def one(body: object) -> Submission:
    given = bodies.submissions(json.dumps(body).encode())
    assert given.single
    (task,) = given.tasks
    return task


def refused(body: bytes | object) -> Invalid:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Invalid) as caught:
        bodies.submissions(text)
    return caught.value


def codes(error: Invalid) -> dict[str, str]:
    return {found.field: found.code for found in error.errors}


@pytest.mark.parametrize(
    ("body", "kind", "payload", "priority"),
    [
        (
            {"task_id": "unique-task-id", "task_type": "processing", "priority": 1, "dependencies": [],
             "timeout": 300, "payload": {"data": "task-specific-data", "parameters": {}}},
            "processing", b'{"data":"task-specific-data","parameters":{}}', 1,
        ),
        ({"taskType": "DATA_PROCESSING", "payload": "sample data"}, "DATA_PROCESSING", b'"sample data"', 5),
        ({"name": "send-email", "payload": {"to": "a@b.org"}}, "send-email", b'{"to":"a@b.org"}', 5),
        (
            {"task_id": "task-b", "dependencies": ["task-a"], "task_type": "analysis",
             "payload": {"input": "x"}},
            "analysis", b'{"input":"x"}', 5,
        ),
        (
            {"task_id": "urgent-task", "priority": 10, "task_type": "critical_analysis"},
            "critical_analysis", b"", 10,
        ),
    ],
)  # fmt: skip
def test_founding_bodies_are_taken_as_they_stand(
    body: dict[str, Any], kind: str, payload: bytes, priority: int
) -> None:
    task = one(body)
    assert (task.type, task.payload, task.priority) == (kind, payload, priority)
    assert task.id == body.get("task_id", "")
    assert task.options is None


@pytest.mark.parametrize(
    ("word", "number"), [("critical", 10), ("HIGH", 7), ("Normal", 5), ("low", 2), (3, 3), (None, 5)]
)
def test_priorities_have_names_in_any_case(word: object, number: int) -> None:
    assert one({"task_type": "t", "priority": word}).priority == number


def test_white_space_in_a_payload_makes_no_difference_and_numbers_stay_as_they_were() -> None:
    spread = bodies.submissions(b'{"task_type":"t","payload": { "a" : [ 1.50, 18446744073709551615 ] }}')
    assert spread.tasks[0].payload == b'{"a":[1.50,18446744073709551615]}'


def test_arrays_and_their_envelope() -> None:
    for body in (b'[{"task_type":"a"},{"name":"b"}]', b'{"tasks":[{"task_type":"a"},{"name":"b"}]}'):
        given = bodies.submissions(body)
        assert [task.type for task in given.tasks] == ["a", "b"] and not given.single


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b'{"task_type": "t", "payload": NaN}',
        b'{"task_type": "t", "payload": Infinity}',
        b'{"task_type": "t", "payload": 1e400}',
        b'{"task_type": "t", "task_type": "u"}',
        b'{"task_type": "t", "payload": {"a": 1, "a": 2}}',
        b'{"task_type": "t", "payload": ' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"task_type": "\xff"}',
        b'{"task_type": "t", "payload": "\\ud800"}',
    ],
)
def test_malformed_is_400_with_a_sentence(body: bytes) -> None:
    error = refused(body)
    assert isinstance(error, Malformed) and error.status == 400
    assert codes(error) == {"body": "malformed"} and error.errors[0].message


def test_an_integer_of_more_than_64_bits_is_422() -> None:
    error = refused(b'{"task_type": "t", "payload": 18446744073709551616}')
    assert error.status == 422 and codes(error) == {"body": "integer_range"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"task_type": "missing"}),
        (3, {"body": "type"}),
        ([], {"tasks": "empty"}),
        ([1, "x"], {"tasks[0]": "type", "tasks[1]": "type"}),
        ({"tasks": [{"task_type": "t"}], "more": 1}, {"more": "unknown_field"}),
        ({"task_type": "t", "priority": 0}, {"priority": "priority"}),
        ({"task_type": "t", "priority": 11}, {"priority": "priority"}),
        ({"task_type": "t", "priority": 2.5}, {"priority": "type"}),
        ({"task_type": "t", "priority": True}, {"priority": "type"}),
        ({"task_type": "t", "priority": "urgent"}, {"priority": "type"}),
        ({"task_type": "t", "timeout": -1}, {"timeout": "timeout"}),
        ({"task_type": "t", "timeout": 0}, {"timeout": "timeout"}),
        ({"task_type": "t", "timeout": 1e9}, {"timeout": "timeout"}),
        ({"task_type": "t", "timeout": "5"}, {"timeout": "type"}),
        ({"task_type": "t", "retries": -1}, {"retries": "retries"}),
        ({"task_type": "t", "retries": "many"}, {"retries": "type"}),
        ({"task_type": "", "payload": 1}, {"task_type": "task_type"}),
        ({"task_type": "has space"}, {"task_type": "task_type"}),
        ({"task_type": 7}, {"task_type": "type"}),
        ({"task_type": "t", "name": "u"}, {"name": "conflict"}),
        ({"task_type": "t", "task_id": "no spaces"}, {"task_id": "task_id"}),
        ({"task_type": "t", "task_id": "x" * 129}, {"task_id": "task_id"}),
        ({"task_type": "t", "task_id": "t-0000000000100"}, {"task_id": "reserved_id"}),
        ({"task_type": "t", "task_id": "a", "dependencies": ["a"]}, {"dependencies[0]": "self_dependency"}),
        ({"task_type": "t", "dependencies": "a"}, {"dependencies": "type"}),
        ({"task_type": "t", "dependencies": [1]}, {"dependencies[0]": "type"}),
        ({"task_type": "t", "dependencies": ["*"]}, {"dependencies[0]": "task_id"}),
        ({"task_type": "t", "pool": "_x"}, {"pool": "pool"}),
        ({"task_type": "t", "region": "a b"}, {"region": "region"}),
        ({"task_type": "t", "tags": [1]}, {"tags[0]": "type"}),
        ({"task_type": "t", "resolve": 1}, {"resolve": "type"}),
        ({"task_type": "t", "backoff": 3}, {"backoff": "type"}),
        ({"task_type": "t", "backoff": {"bass_s": 3}}, {"backoff.bass_s": "unknown_field"}),
        ({"task_type": "t", "backoff": {"kind": "odd"}}, {"backoff": "backoff"}),
        ({"task_type": "t", "state": "x"}, {"state": "unknown_field"}),
        ({"task_type": "t", "priority": 0, "timeout": -1}, {"priority": "priority", "timeout": "timeout"}),
        (
            [{"task_type": "t"}, {"task_type": "t", "priority": 99}, {"timeout": "x"}],
            {"tasks[1].priority": "priority", "tasks[2].timeout": "type", "tasks[2].task_type": "missing"},
        ),
        (
            [{"task_type": "t", "task_id": "a"}, {"task_type": "t", "task_id": "a"}],
            {"tasks[1].task_id": "repeated_id"},
        ),
        (
            [
                {"task_type": "t", "task_id": "a", "dependencies": ["b"]},
                {"task_type": "t", "task_id": "b", "dependencies": ["a"]},
            ],
            {"tasks[0].dependencies": "cycle"},
        ),
        ([{"task_type": "t"}] * 1001, {"tasks": "too_many"}),
    ],
)
def test_every_bad_field_is_named(body: object, expected: dict[str, str]) -> None:
    error = refused(body)
    assert error.status == 422 and codes(error) == expected
    assert all(found.message for found in error.errors)


@pytest.mark.parametrize("field", sorted(bodies.NOT_YET))
def test_what_is_not_built_yet_says_so(field: str) -> None:
    error = refused({"task_type": "t", field: "*/5 * * * *"})
    assert isinstance(error, NotYet) and error.status == 422
    assert codes(error) == {field: "not_yet"}


@pytest.mark.parametrize(
    ("typed", "meant"), [("prority", "priority"), ("taskID", "task_id"), ("depends", "dependencies")]
)
def test_an_unknown_field_gets_the_nearest_known_one(typed: str, meant: str) -> None:
    (found,) = refused({"task_type": "t", typed: 1}).errors
    assert f"Did you mean {meant}?" in found.message


def test_the_body_of_a_cancel() -> None:
    assert bodies.act(b"") == "" and bodies.act(b'{"reason": "smtp outage"}') == "smtp outage"
    for bad in (b"[]", b'{"reson": "x"}', b'{"reason": 4}', b'{"reason": "' + b"x" * 501 + b'"}'):
        with pytest.raises(Invalid):
            bodies.act(bad)
