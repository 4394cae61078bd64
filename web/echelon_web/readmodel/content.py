"""Payloads and results: from the row if they are small, otherwise from where they lie."""

from __future__ import annotations

from echelon.wire.api import Submission
from echelon.wire.child import OK
from echelon.wire.child import outcomes as decode_outcomes
from echelon_core import names
from echelon_core.entries import Admitted, Redriven, ledger_entry
from echelon_core.runs import index_of, sequence_of
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.tail import get
from echelon_web.readmodel.query import Task


async def payload(bus: Bus, blobs: Blobs, task: Task) -> bytes | None:
    """JSON text, empty if it has none; None if it is no longer kept.

    Raises:
        BrokerError: the server is away.
    """
    said = task.submitted
    if said.payload is not None:
        return said.payload
    if said.blob:
        return await blobs.get(said.blob)
    entry = await get(bus, names.LEDGER, task.row.series or sequence_of(task.ref))
    if entry is None or not entry.data:
        return None
    found = _submission(entry.data, index_of(task.ref))
    return None if found is None else found.payload


def _submission(data: bytes, index: int) -> Submission | None:
    match ledger_entry(data):
        case Redriven() as redriven:
            return redriven.task
        case Admitted() as admitted:
            for group in admitted.groups:
                if index < len(group.tasks):
                    return group.tasks[index]
                index -= len(group.tasks)
    return None


async def result(bus: Bus, blobs: Blobs, task: Task) -> bytes | None:
    """JSON text of a completed task; None if it is not completed, or no longer kept.

    Raises:
        BrokerError: the server is away.
    """
    row = task.row
    if not row.end_sequence or task.live:
        return None
    blob = ""
    if (row.run_region, row.run_sequence) == (row.end_region, row.end_sequence):
        if row.result is not None:
            return row.result
        blob = row.result_blob or ""
    if not blob:
        entry = await get(bus, names.outcomes(row.end_region), row.end_sequence)
        if entry is None:
            return None
        told = [ran for ran in decode_outcomes(entry.data).ran if ran.ref == task.ref and ran.status == OK]
        if not told:
            return None
        if not told[-1].blob:
            return told[-1].result
        blob = told[-1].blob
    return await blobs.get(blob)
