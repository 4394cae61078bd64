"""A master, a region, a worker and a reader of a hundred lines: enough for a client to be tested against."""

from __future__ import annotations

import asyncio
import json

import msgspec

from echelon.errors import AlreadyEnded, NotFound
from echelon.wire import names
from echelon.wire.api import (
    ActAnswer,
    Admission,
    Done,
    End,
    Notice,
    Refusal,
    Submission,
    SubmitAnswer,
    Where,
    act_request,
    ask_request,
    get_request,
    submit_request,
)
from echelon.wire.child import ERROR, OK, Error, Outcomes, Ran
from echelon.wire.codec import from_json, pack
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus, Message


class TinyMaster:
    """Admits, runs and settles at once. `mute`: answers to requests of this subject are lost."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.blobs = Blobs(bus)
        self.sequence = 10
        self.tasks: dict[int, Submission] = {}
        self.ids: dict[str, int] = {}
        self.keys: dict[str, Admission] = {}
        self.requests = 0
        self.ends = Notice([], [])
        self.lose = 0  # so many answers are lost
        self.overloaded = 0
        self.silent = False  # no notices
        self.background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await topology.ensure_hub(self.bus)
        await topology.ensure_region(self.bus, "east")
        for subject, answer in (
            (names.SUBMIT, self.submit),
            (names.RESULT, self.result),
            (names.GET, self.get),
            (names.CANCEL, self.cancel),
            (names.PING, self.ping),
        ):
            await self.bus.subscribe(subject, self.door(answer))

    def door(self, answer):  # type: ignore[no-untyped-def]
        def on_message(message: Message) -> None:
            running = asyncio.ensure_future(reply(message))
            self.background.add(running)
            running.add_done_callback(self.background.discard)

        async def reply(message: Message) -> None:
            said = await answer(message.data)
            if self.lose:
                self.lose -= 1
            else:
                await self.bus.publish(message.reply, said)

        return on_message

    async def submit(self, data: bytes) -> bytes:
        self.requests += 1
        request = submit_request(data)
        answers: list[Admission | Refusal] = []
        new: list[int] = []
        for group in request.groups:
            if self.overloaded:
                self.overloaded -= 1
                answers.append(Refusal("overloaded", 429, "", "full", retry_after_s=0.01))
                continue
            if group.key not in self.keys:
                self.sequence += 1
                fresh = [t for t in group.tasks if t.id not in self.ids]
                known = {i: self.ids[t.id] for i, t in enumerate(group.tasks) if t.id in self.ids}
                first = self.sequence * 1024
                self.tasks.update(enumerate(fresh, first))
                self.ids.update({t.id: first + n for n, t in enumerate(fresh) if t.id})
                new.extend(range(first, first + len(fresh)))
                self.keys[group.key] = Admission(first, len(group.tasks), known)
            answers.append(self.keys[group.key])
        if new:
            told = await self.run(new)
            if not self.silent:
                await self.bus.publish(request.inbox, pack(told))
        return pack(SubmitAnswer(self.sequence, answers))

    async def run(self, refs: list[int]) -> Notice:
        ran, ended = [], []
        for ref in refs:
            given = self.tasks[ref]
            if given.type == "sdk.never":
                continue
            payload = await self.blobs.get(given.blob) if given.blob else given.payload
            assert payload is not None
            if given.type in ("failed", "cancelled", "expired", "dependency_failed"):
                error = Error("ValueError", "told", "Traceback: …") if given.type == "failed" else None
                ran.append(Ran(ref, 1, ERROR, b"", 1.0, 2.0, error))
                kind = given.type if given.type in ("cancelled", "expired") else "failed"
                ended.append(End(ref, kind, given.type, "task-a", "east" if error else "", 0))
            elif given.type == "large":
                blob = f"r-{ref}-1"
                await self.blobs.put(blob, json.dumps("x" * 9_000_000).encode())
                ran.append(Ran(ref, 1, OK, b"", 1.0, 2.0, None, blob))
            elif given.type == "length":
                ran.append(Ran(ref, 1, OK, b"%d" % len(payload), 1.0, 2.0))
            else:
                ran.append(Ran(ref, 1, OK, b"%d" % (2 * from_json(payload)["x"]), 1.0, 2.0))
        if not ran:
            return Notice([], [])
        stored = from_json(
            await self.bus.request("echelon.outcome.east", pack(Outcomes("w", ran)), timeout_s=5)
        )
        ended = [msgspec.structs.replace(end, sequence=stored["seq"] if end.region else 0) for end in ended]
        told = Notice([Where("east", stored["seq"], [r.ref for r in ran if r.status == OK])], ended)
        self.ends.ok += told.ok
        self.ends.ended += told.ended
        return told

    async def result(self, data: bytes) -> bytes:
        refs = set(ask_request(data).refs)
        ok = [Where(w.region, w.sequence, [r for r in w.refs if r in refs]) for w in self.ends.ok]
        return pack(Notice([w for w in ok if w.refs], [end for end in self.ends.ended if end.ref in refs]))

    async def get(self, data: bytes) -> bytes:
        asked = get_request(data)
        if asked.position < self.sequence:  # a reader that is behind, and waits only if it is told to
            return pack([b""])
        [task_id] = asked.ids
        ref = self.ids.get(task_id, names.ref_of(task_id))
        text = json.dumps({"task_id": task_id, "status": "completed"}).encode() if ref in self.tasks else b""
        return pack([text])

    async def ping(self, data: bytes) -> bytes:
        return pack({"role": "master", "epoch": 1, "position": self.sequence})

    async def cancel(self, data: bytes) -> bytes:
        [task_id] = act_request(data).ids
        if self.ids.get(task_id, names.ref_of(task_id)) not in self.tasks:
            return pack(ActAnswer(self.sequence, [NotFound("task", task_id).refusal()]))
        if task_id == "over":
            return pack(ActAnswer(self.sequence, [AlreadyEnded(task_id, "completed").refusal()]))
        return pack(ActAnswer(self.sequence, [Done(1, "running")]))
