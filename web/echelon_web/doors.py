"""What other programs ask over NATS: tasks by id, and which of these have ended. Any web node answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from echelon.wire.api import ask_request, get_request
from echelon.wire.codec import pack
from echelon.wire.names import GET, RESULT
from echelon_infra.jetstream.connection import Message, Subscription
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.telemetry import logs
from echelon_web.api.answer import task_bytes
from echelon_web.readmodel import query

if TYPE_CHECKING:
    from echelon_web.node import Node

log = logs.get("web")
READERS: Final = "reader"
RESULT_BYTES: Final = 256 * 1024
"""Results above this are not in the answer to GET, which is one message; they are read where they lie."""
ANSWER_BYTES: Final = 4 * 1024 * 1024


class Doors:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._open: list[Subscription] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Waits until there is something to read; meanwhile another node answers, or they ask again."""
        await self._node.feed.current.wait()
        bus = self._node.bus
        for subject, answer in ((GET, self._get), (RESULT, self._result)):
            self._open.append(await bus.subscribe(subject, self._door(answer), queue=READERS))

    async def close(self) -> None:
        for subscription in self._open:
            await subscription.stop()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _door(self, answer: Callable[[bytes], Awaitable[bytes]]) -> Callable[[Message], None]:
        async def reply(message: Message) -> None:
            try:
                self._node.bus.send(message.reply, await answer(message.data))
            except (msgspec.DecodeError, BrokerError) as error:
                log.warning("a question was not answered", subject=message.subject, error=str(error))

        def on_message(message: Message) -> None:
            task = asyncio.create_task(reply(message))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

        return on_message

    async def _get(self, data: bytes) -> bytes:
        """`Get` -> for each id the JSON of `GET /api/tasks/{id}`, empty if there is none."""
        asked = get_request(data)
        node = self._node
        await node.fresh(asked.position)
        answers: list[bytes] = []
        room = ANSWER_BYTES
        for name in asked.ids:
            task = query.task(node.db, name)
            told = b"" if task is None else await task_bytes(node, task, limit=min(RESULT_BYTES, room))
            room = max(0, room - len(told))
            answers.append(told)
        return pack(answers)

    async def _result(self, data: bytes) -> bytes:
        """`Ask` -> `Notice` of those that have ended."""
        asked = ask_request(data)
        node = self._node
        await node.feed.applied(max(asked.position, node.commands.acknowledged))
        return pack(query.ended(node.db, asked.refs, node.feed.projection.rows))
