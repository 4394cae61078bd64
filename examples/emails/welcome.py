"""Welcomes whoever is named: two tasks an address, the second with what the first returned."""

from __future__ import annotations

import asyncio
import sys

from tasks import send, write

from echelon import Client, TaskFailed


async def welcome(addresses: list[str]) -> int:
    """How many could not be welcomed. The client finds the running Echelon itself."""
    failed = 0
    async with Client() as client:
        mails = []
        for address in addresses:
            letter = await client.submit(write, name=address.partition("@")[0].title())
            wanted = send.options(dependencies=[letter], priority="high")
            mails.append(await client.submit(wanted, to=address, letter=letter.id))
        for address, mail in zip(addresses, mails, strict=True):
            try:
                print(await mail.result(timeout=30))
            except TaskFailed as error:
                failed += 1
                print(f"{address}: {error.message}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(welcome(sys.argv[1:])) else 0)
