"""A master on a real server, with the test as clients and as regions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from echelon.wire import names as api_names
from echelon.wire.api import (
    Act,
    ActAnswer,
    Admission,
    Done,
    Group,
    Notice,
    Refusal,
    Submission,
    Submit,
    SubmitAnswer,
    act_answer,
    notice,
    refusal_of,
    submit_answer,
)
from echelon.wire.codec import pack
from echelon.wire.names import id_of
from echelon_core import names
from echelon_core.entries import (
    Admitted,
    Cancel,
    Delegated,
    Ended,
    LedgerEntry,
    Redriven,
    Returned,
    Room,
    Settled,
    Verdicts,
    Withdrawn,
    encode,
    ledger_entry,
)
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.errors import NoResponders, Timeout
from echelon_infra.settings import Settings
from echelon_master import doors, run
from echelon_master.run import _lead
from support.eventually import eventually
from support.lab import Lab, nats_lab


class Scene:
    def __init__(self, lab: Lab, bus: Bus, settings: Settings) -> None:
        self.lab, self.bus, self.settings = lab, bus, settings
        self.stop = asyncio.Event()
        self.notices: list[Notice] = []
        self.inbox = bus.inbox()
        self.logged = dict.fromkeys(settings.regions, 0)

    # ------------------------------------------------------------------ the master
    async def lead(self) -> asyncio.Task[int]:
        """Start a leader; it has its own connection, so that it can be cut off."""
        self.stop = asyncio.Event()
        self.leader_bus = await self.lab.bus("leader")
        leading = asyncio.create_task(_lead(self.leader_bus, self.settings, self.stop))
        await eventually(lambda: leading.done() or self.answers())
        return leading

    async def answers(self) -> bool:
        try:
            await self.bus.request(api_names.PING, timeout_s=0.5)
        except (NoResponders, Timeout):  # a busy machine: it may still begin
            return False
        return True

    async def crash(self, leader: asyncio.Task[int]) -> None:
        """As kill -9 would: it says nothing more, and its lease stays."""
        leader.cancel()
        with suppress(asyncio.CancelledError):
            await leader
        await self.leader_bus.close()

    # ------------------------------------------------------------------ clients
    async def submit(self, *tasks: Submission, key: str = "") -> Admission | Refusal:
        request = Submit(self.inbox, [Group(key, list(tasks))])
        data = await self.bus.request(api_names.SUBMIT, pack(request), timeout_s=5)
        answer: SubmitAnswer = submit_answer(data)
        return answer.groups[0]

    async def admitted(self, *tasks: Submission, key: str = "") -> list[int]:
        said = await self.submit(*tasks, key=key)
        assert isinstance(said, Admission), said
        return said.refs()

    async def act(self, subject: str, *ids: str) -> list[Done | Refusal]:
        answer: ActAnswer = act_answer(await self.bus.request(subject, pack(Act(list(ids))), timeout_s=5))
        return answer.items

    # ------------------------------------------------------------------ regions
    async def room(self, region: str = "east", credit: int = 1000, *types: str) -> None:
        offered = dict.fromkeys(types or ("quick",), "async")
        await self.bus.publish(names.room(region), encode(Room(region, 1, credit, offered, 1, 10)))

    async def says(self, entry: Verdicts, region: str = "east") -> None:
        await self.bus.request(names.region_subject(region), encode(entry), timeout_s=2)

    async def ok(self, refs: list[int], region: str = "east") -> None:
        ledger = await topology.last_sequence(self.bus, names.LEDGER)
        await self.says(Verdicts(ledger, 1, time.time(), [(7, refs)]), region)

    # ------------------------------------------------------------------ the ledger
    async def ledger(self) -> list[tuple[int, LedgerEntry]]:
        end = await topology.last_sequence(self.bus, names.LEDGER)
        found = []
        async for batch in tail.read(self.bus, names.LEDGER, after=0, upto=end):
            found += [(each.seq, ledger_entry(each.data)) for each in batch if each.data]
        return found

    async def of(self, kind: type[Any], where: Callable[[Any], bool] = lambda entry: True) -> list[Any]:
        """Wait until the ledger has such an entry; returns them all."""

        async def look() -> list[Any]:
            return [entry for _, entry in await self.ledger() if isinstance(entry, kind) and where(entry)]

        found: list[Any] = await eventually(look)
        return found


@asynccontextmanager
async def scene(tmp_path: Path, **settings: Any) -> AsyncIterator[Scene]:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("test")
        await topology.ensure_hub(bus)
        for region in ("east", "west"):
            await topology.ensure_region(bus, region)
        made = Scene(lab, bus, Settings(data=tmp_path, **settings))

        def heard(message: Message) -> None:
            made.notices.append(notice(message.data))

        await bus.subscribe(made.inbox, heard)
        yield made


def quick(task_id: str = "", *dependencies: str, payload: bytes = b"{}") -> Submission:
    return Submission("quick", payload, task_id, dependencies=dependencies)


async def test_submitted_delegated_settled_and_told(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.room()
        first, second = await s.admitted(quick(), quick())
        (delegated,) = await s.of(Delegated)
        assert [item.ref for item in delegated.items] == [first, second] and delegated.region == "east"
        await s.ok([first, second])
        await eventually(lambda: s.notices)
        assert s.notices[0].ok[0].refs == [first, second] and s.notices[0].ok[0].sequence == 7
        (settled,) = await s.of(Settled)
        assert settled.position == 1
        s.stop.set()
        assert await leader == 0


async def test_two_regions_share_a_burst(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.room("east", 1000)
        await s.room("west", 1000)
        await eventually(s.answers)
        await s.admitted(*(quick() for _ in range(200)))

        async def shares() -> dict[str, int]:
            share = dict.fromkeys(("east", "west"), 0)
            for _, entry in await s.ledger():
                if isinstance(entry, Delegated):
                    share[entry.region] += len(entry.items)
            return share if sum(share.values()) == 200 else {}

        assert min((await eventually(shares)).values()) >= 80
        s.stop.set()
        await leader


async def test_a_repeated_key_after_a_lost_answer_gives_the_same_refs_also_after_a_crash(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        once = await s.admitted(quick(), quick("mine"), key="k1")
        assert await s.admitted(quick(), quick("mine"), key="k1") == once
        await s.crash(leader)
        leader = await s.lead()
        assert await s.admitted(quick(), quick("mine"), key="k1") == once
        assert sum(isinstance(entry, Admitted) for _, entry in await s.ledger()) == 1
        s.stop.set()
        await leader


@pytest.mark.parametrize("clean", [True, False])
async def test_a_restart_keeps_everything(tmp_path: Path, clean: bool) -> None:
    """What waits goes on waiting, what is out is awaited, what ended is known, dependants are freed."""
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.room()
        done, out = await s.admitted(quick("done"), quick("out"))
        await s.of(Delegated)
        await s.ok([done])
        await s.of(Settled)
        (waiting,) = await s.admitted(Submission("odd", b"[1]", "waiting", dependencies=("done",)))
        (after,) = await s.admitted(quick("after", "out", "done"))
        if clean:
            s.stop.set()
            assert await leader == 0
        else:
            await s.crash(leader)
        leader = await s.lead()
        assert await s.admitted(quick("done"), quick("out")) == [done, out]
        said = await s.submit(Submission("quick", b"{}", "done", 9))
        assert isinstance(said, Refusal) and said.code == "task_id_conflict"
        await s.ok([out])
        await s.room("east", 1000, "quick", "odd")
        await s.of(Delegated, lambda entry: any(item.ref == after for item in entry.items))
        items = {item.ref: item for entry in await s.of(Delegated) for item in entry.items}
        assert [source.ref for source in items[after].more.inputs] == [out, done]
        assert items[waiting].payload == b"[1]"
        s.stop.set()
        assert await leader == 0


async def test_after_many_tasks_a_snapshot_spares_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.admitted(*(quick(f"a{i}") for i in range(500)))
        s.stop.set()
        assert await leader == 0
        applied: list[int] = []
        apply = run.MasterState.apply

        def counted(state: Any, seq: int, entry: Any) -> None:
            applied.append(seq)
            apply(state, seq, entry)

        monkeypatch.setattr(run.MasterState, "apply", counted)
        leader = await s.lead()
        assert len(applied) == 97, "the new wall alone was read"
        assert len(await s.admitted(*(quick(f"a{i}") for i in range(500)))) == 500
        assert sum(isinstance(entry, Admitted) for _, entry in await s.ledger()) == 1
        s.stop.set()
        await leader


async def test_cancel_and_retry(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        (first,) = await s.admitted(quick("first", payload=b'"' + b"x" * 5000 + b'"'))
        (then,) = await s.admitted(quick("then", "first"))
        (cancelled,) = await s.act(api_names.CANCEL, "first")
        assert cancelled == Done(first, "cancelled")
        await eventually(lambda: sum(len(n.ended) for n in s.notices) == 2)
        ends = [end for told in s.notices for end in told.ended]
        assert [(end.ref, end.kind, end.cause) for end in ends] == [
            (first, "cancelled", "cancelled"),
            (then, "cancelled", "dependency_cancelled"),
        ]
        (again,) = await s.act(api_names.CANCEL, "first")
        assert isinstance(again, Refusal) and again.code == "already_ended"
        (never,) = await s.act(api_names.RETRY, id_of(first + 1))
        assert isinstance(never, Refusal) and never.code == "not_found"
        (redriven,) = await s.act(api_names.RETRY, "first")
        assert redriven == Done(first, "ready")
        await s.room()
        (delegated,) = await s.of(Delegated)
        ((seq, _),) = [(seq, e) for seq, e in await s.ledger() if isinstance(e, Redriven)]
        (item,) = delegated.items
        assert (item.ref, item.payload, item.source) == (first, None, seq)
        (wished,) = await s.act(api_names.CANCEL, id_of(first))
        assert wished == Done(first, "delegated")
        (cancel,) = await s.of(Cancel)
        delegation = next(seq for seq, e in await s.ledger() if isinstance(e, Delegated))
        assert cancel.tasks == [(first, delegation)]
        await s.says(Verdicts(delegation, 1, 1.0, [], [Ended(first, 0, "cancelled", "cancelled", 0, 0, 0)]))
        await s.of(Settled, lambda entry: entry.region == "east" and bool(entry.ended))
        s.stop.set()
        await leader


async def test_a_returned_task_is_withdrawn_and_placed_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.room("east")
        (ref,) = await s.admitted(quick())
        await s.of(Delegated)
        await s.room("east", 0)
        await s.room("west")
        ledger = await topology.last_sequence(s.bus, names.LEDGER)
        await s.says(Verdicts(ledger, 1, 1.0, [], returned=[Returned(ref, 1, 2)]))
        (withdrawn,) = await s.of(Withdrawn)
        assert withdrawn.region == "east"
        (second,) = await s.of(Delegated, lambda entry: entry.region == "west")
        assert (second.items[0].charged, second.items[0].losses) == (1, 2)
        s.stop.set()
        await leader


async def test_bad_requests_are_refused_and_a_notice_never_goes_to_our_own_subjects(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        for data in (b"", b"nonsense", msgspec.msgpack.encode([1, 2])):
            for subject in (api_names.SUBMIT, api_names.CANCEL, api_names.RETRY):
                refusal = refusal_of(await s.bus.request(subject, data, timeout_s=2))
                assert refusal is not None and refusal.code == "malformed"
        for inbox in (names.ADMITTED, "$JS.API.STREAM.DELETE.x"):
            data = pack(Submit(inbox, [Group("k", [quick()])]))
            refusal = refusal_of(await s.bus.request(api_names.SUBMIT, data, timeout_s=2))
            assert refusal is not None and refusal.errors[0].field == "inbox"
        said = await s.submit(quick("a", "never-seen"), Submission("quick", b"", "b", 11))
        assert isinstance(said, Refusal) and said.code == "invalid"
        assert not any(isinstance(entry, Admitted) for _, entry in await s.ledger())
        s.stop.set()
        await leader


async def test_another_leader_deposes_the_first(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        await s.admitted(quick())
        other = await s.lead()  # of the same folder: it need not wait for the lease
        with pytest.raises(run.Deposed):
            await leader
        await eventually(s.answers)
        await s.admitted(quick())
        assert sum(isinstance(entry, Admitted) for _, entry in await s.ledger()) == 2
        s.stop.set()
        await other


async def test_what_does_not_fit_into_a_turn_waits_for_the_next_and_too_much_is_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        monkeypatch.setattr(doors, "TASKS_PER_TURN", 2)
        leader = await s.lead()
        said = await asyncio.gather(*(s.submit(quick(f"a{n}")) for n in range(40)))
        assert len({answer.refs()[0] for answer in said if isinstance(answer, Admission)}) == 40
        monkeypatch.setattr(doors, "REQUESTS_WAITING", 0)
        data = await s.bus.request(api_names.SUBMIT, pack(Submit("", [Group("", [quick()])])), timeout_s=2)
        refusal = refusal_of(data)
        assert refusal is not None and refusal.status == 503 and refusal.retry_after_s == 1.0
        s.stop.set()
        assert await leader == 0
