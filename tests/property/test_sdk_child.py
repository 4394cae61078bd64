"""A handler sees the asyncio that it would see in a task of its own, whoever began beside it."""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import Any

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from echelon.child.async_slots import AsyncSlots
from echelon.child.frames import frame
from echelon.child.page import Page
from echelon.child.plan import plans
from echelon.child.resolve import resolve
from echelon.tasks import How, Task
from echelon.wire.child import FRAME, OK, STATE, Bundle, Kind, Ran, Run, join, outcomes
from echelon.wire.codec import from_json, pack, to_json
from support.eventually import eventually

OPS = (
    "turn", "sleep", "cancel me", "swallow", "timeout", "group", "group fails", "set", "child", "raise",
    "name", "shield", "uncancel", "gather",
)  # fmt: skip
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


async def fail() -> None:
    await asyncio.sleep(0)
    raise KeyError("in the group")


async def step(op: str, log: list[Any]) -> None:
    me = asyncio.current_task()
    assert me is not None
    match op:
        case "turn":
            await asyncio.sleep(0)
        case "sleep":
            await asyncio.sleep(0.001)
        case "cancel me":
            me.cancel()
        case "swallow":
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                log.append("cancelled")
        case "uncancel":
            log.append(me.uncancel() if me.cancelling() else 0)
        case "timeout":
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(1)
            except TimeoutError:
                log.append("timeout")
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
        case "group fails":
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    await asyncio.sleep(1)
            except* KeyError:
                log.append("group")
        case "set":
            log.append(variable.get())
            variable.set(variable.get() + 1)
        case "child":
            log.append(await asyncio.create_task(asyncio.sleep(0, variable.get())))
        case "raise":
            raise ValueError("raised")
        case "name":
            log.append((me is asyncio.current_task(), me.done(), me.cancelling()))
        case "shield":
            await asyncio.shield(asyncio.ensure_future(asyncio.sleep(0)))
        case "gather":
            log.append(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))


async def perform(program: list[str]) -> list[Any]:
    log: list[Any] = []
    for op in program:
        await step(op, log)
    return log


async def as_task(program: list[str]) -> tuple[str, Any]:
    """What the coroutine itself comes to: a result counts, even if its task was told to end meanwhile."""
    found: list[tuple[str, Any]] = []

    async def performed() -> None:
        try:
            found.append(("ok", from_json(to_json(await perform(program)))))
        except (ValueError, asyncio.CancelledError) as error:
            found.append((type(error).__qualname__, None))

    await asyncio.gather(asyncio.create_task(performed()), return_exceptions=True)
    return found[0]


class Wire(asyncio.Transport):
    """What the child says."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Ran] = []
        self.done = 0

    def write(self, data: Any) -> None:
        data = bytes(data)
        while data:
            size, kind, _, count = FRAME.unpack_from(data)
            body, data = data[FRAME.size : FRAME.size + size], data[FRAME.size + size :]
            if kind != Kind.STARTED:
                self.ran += outcomes(join("w", [(count, body)])).ran
                self.done += kind == Kind.DONE

    def get_write_buffer_size(self) -> int:
        return 0


async def in_child(bundles: list[list[list[str]]], slots: int) -> list[tuple[str, Any]]:
    fd = os.memfd_create("page")
    os.ftruncate(fd, STATE.size)
    handler: Task[..., Any, Any] = Task("t", perform, How())
    wire = Wire()
    child = AsyncSlots(plans({"t": handler}, "async"), slots, Page(fd))
    os.close(fd)
    child.connection_made(wire)
    number = 0
    for token, programs in enumerate(bundles):
        runs = []
        for program in programs:
            runs.append(Run(number, 1, "t", to_json({"program": program}), 60.0, 1))
            number += 1
        message = frame(Kind.BUNDLE, token, pack(Bundle(False, runs)))
        asyncio.get_running_loop().call_soon(child.data_received, message)
        await asyncio.sleep(0)
    await eventually(lambda: wire.done == len(bundles), timeout_s=5, every_s=0.001)
    child._shell.task.cancel()
    await asyncio.sleep(0)
    assert len(wire.ran) == number
    found: list[tuple[str, Any]] = []
    for ran in sorted(wire.ran, key=lambda ran: ran.ref):
        if ran.status == OK:
            found.append(("ok", from_json(ran.result)))
        else:
            assert ran.error is not None
            found.append((ran.error.type.removeprefix("asyncio.exceptions."), None))
    return found


programs = st.lists(st.sampled_from(OPS), max_size=6)


@given(
    bundles=st.lists(st.lists(programs, min_size=1, max_size=5), min_size=1, max_size=3),
    slots=st.integers(1, 8),
    fast=st.booleans(),
)
@settings(max_examples=100)
def test_a_run_sees_what_its_own_task_would(bundles: list[list[list[str]]], slots: int, fast: bool) -> None:
    async def alone() -> list[tuple[str, Any]]:
        return [await as_task(program) for programs_ in bundles for program in programs_]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if fast else None) as runner:
        assert runner.run(in_child(bundles, slots)) == runner.run(alone())


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(value=values, result=values)
def test_payloads_that_name_no_dependency_are_left_as_they_are(value: Any, result: Any) -> None:
    assert from_json(resolve(to_json(value), {"some-task": result})) == value


@given(result=values, around=st.sampled_from(["{}", "[{}]", '{{"a":{{"b":[1,{}]}}}}']))
def test_a_reference_is_replaced_wherever_it_stands(result: Any, around: str) -> None:
    for reference in ('"result_from_some_task"', '{"$result":"some-task"}', '"result_from_some\\u005ftask"'):
        payload = around.format(reference).encode()
        expected = around.format(to_json(result).decode())
        assert from_json(resolve(payload, {"some-task": result})) == from_json(expected.encode())
