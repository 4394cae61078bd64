"""One hop of the bare chain: what is stored in a stream is delivered here and published onward."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import nats
import uvloop

MINUTE_NS = 60 * 10**9
BATCH = 200


async def main(stream: str, onward: str) -> None:
    connection = await nats.connect(os.environ["HOP_URL"])
    config = {
        "ack_policy": "none",
        "deliver_policy": "new",
        "mem_storage": True,
        "inactive_threshold": MINUTE_NS,
    }
    body = json.dumps({"stream_name": stream, "config": config}).encode()
    made = json.loads((await connection.request(f"$JS.API.CONSUMER.CREATE.{stream}", body)).data)
    pulls, inbox = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{made['name']}", connection.new_inbox()
    seen = 0

    async def pull(number: int) -> None:
        ask = json.dumps({"batch": number, "expires": MINUTE_NS}).encode()
        await connection.publish(pulls, ask, reply=inbox)

    async def arrived(message: nats.aio.msg.Msg) -> None:
        nonlocal seen
        if message.headers and message.headers.get("Status"):
            return
        seen += 1
        await connection.publish(onward, message.data, reply="nobody" if "." in onward else "")
        if seen % BATCH == 0:
            await pull(BATCH)

    await connection.subscribe(inbox, cb=arrived)
    await pull(2 * BATCH)
    await connection.flush()
    print("up", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
