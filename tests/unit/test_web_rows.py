"""The read model, case by case: what interleavings cannot show because all of them do the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import astuple

from echelon.wire.api import Options, Submission, Where
from echelon.wire.child import ERROR, OK, Error, Outcomes, Ran, Started
from echelon.wire.codec import pack
from echelon_core import entries
from echelon_core.entries import Admitted, AdmittedGroup, Again, Delegated, Item, Settled, Verdicts
from echelon_core.life import Stage
from echelon_core.runs import first_run, next_run
from echelon_web.readmodel import query, rows
from echelon_web.readmodel.project import Projection
from echelon_web.readmodel.store import Busy, Store

REF = 1 << 10
RUN = first_run(2)


def placed() -> Projection:
    """One task, admitted in entry 1 and placed in east by entry 2."""
    projection = Projection({})
    projection.ledger(1, Admitted(1.0, [AdmittedGroup("k", "", [Submission("t", b"{}")])]))
    projection.ledger(2, rows.ledger_entry(pack(Delegated(2.0, "east", [Item(REF, "t", b"{}", 5)]))))
    return projection


def told(
    projection: Projection, sequence: int, *ran: Ran, starts: tuple[Started, ...] = (), worker: str = "w"
) -> None:
    projection.outcomes("east", sequence, Outcomes(worker, list(ran), list(starts)))


def again(projection: Projection, run: int, cause: str = "error", due: float = 9.0) -> None:
    projection.verdicts(
        "east", rows.Verdicts(2, 0, 3.0, rows.msgspec.Raw(b"\x90"), again=[Again(REF, run, cause, due, 1, 0)])
    )


def test_of_two_reports_about_one_run_the_first_counts() -> None:
    projection = placed()
    told(projection, 5, Ran(REF, RUN, OK, b"1", 3.0, 4.0), worker="first")
    told(projection, 6, Ran(REF, RUN, OK, b"2", 3.5, 4.5), worker="copy")
    row = projection.rows[REF]
    assert (row.worker, row.result, row.run_sequence) == ("first", b"1", 5)


def test_a_verdict_read_after_the_next_start_does_not_stop_it() -> None:
    projection = placed()
    told(projection, 5, starts=(Started(REF, next_run(RUN), 3.0),))
    again(projection, RUN)
    assert projection.rows[REF].stage is Stage.RUNNING


def test_a_report_of_a_closed_run_does_not_start_it() -> None:
    projection = placed()
    again(projection, RUN)
    told(projection, 5, starts=(Started(REF, RUN, 3.0),))
    assert projection.rows[REF].stage is Stage.RETRYING and projection.rows[REF].started == 3.0


def test_an_end_stands_before_its_outcome_was_read_and_is_filled_in() -> None:
    projection = placed()
    projection.ledger(3, Settled(5.0, "east", 1, [Where("east", 7, [REF])], []))
    assert projection.rows[REF].stage is Stage.COMPLETED and projection.rows[REF].result is None
    told(projection, 7, Ran(REF, RUN, OK, b'"x"', 3.0, 4.0))
    row = projection.rows[REF]
    assert row.stage is Stage.COMPLETED and row.result == b'"x"' and row.end_sequence == row.run_sequence


def test_large_payloads_and_results_stay_where_they_lie() -> None:
    projection = Projection({})
    large = b'"' + b"x" * rows.INLINE + b'"'
    projection.ledger(1, Admitted(1.0, [AdmittedGroup("k", "", [Submission("t", large)])]))
    said = rows.submitted_of(projection.take().new[0][4])
    assert said.payload is None and said.payload_bytes == len(large)
    projection.ledger(2, rows.ledger_entry(pack(Delegated(2.0, "east", [Item(REF, "t", None, 5)]))))
    told(projection, 5, Ran(REF, RUN, OK, large, 3.0, 4.0))
    row = projection.rows[REF]
    assert row.result is None and row.result_bytes == len(large)


def test_attempts_of_a_retried_task() -> None:
    store, projection = Store(None), placed()
    error = Error("ValueError", "no", "trace")
    told(projection, 5, Ran(REF, RUN, ERROR, b"", 3.0, 3.5, error))
    again(projection, RUN)
    told(projection, 6, Ran(REF, next_run(RUN), OK, b"1", 9.0, 9.5))
    for _ in store.write(projection.take(), {}):
        pass
    found = query.task(store.db, "t-0000000000100")
    assert found is not None
    first, second = found.attempts
    assert (first.outcome, first.type, first.due, first.worker) == ("failure", "ValueError", 9.0, "w")
    assert (second.outcome, second.started, second.type) == ("success", 9.0, None)
    assert found.row.started == 3.0
    store.close()


def test_what_is_read_of_an_entry_is_what_the_tiers_write() -> None:
    """The lean shapes of `rows` against the full ones of core."""
    item = Item(REF, "t", b"{}", 5, "id", Options(), 1, 2, 3)
    full = Delegated(1.0, "east", [item, item])
    lean = rows.ledger_entry(pack(full))
    assert isinstance(lean, rows.Delegated) and [i.ref for i in lean.items] == [REF, REF]
    verdicts = Verdicts(1, 2, 3.0, [(4, [REF])], [entries.Ended(REF, RUN, "dead", "error", 4, 1, 0)], [], [])
    read = rows.region_entry(pack(verdicts))
    assert isinstance(read, rows.Verdicts)
    assert (read.ledger, read.outcomes, read.ended) == (1, 2, verdicts.ended)
    assert isinstance(rows.region_entry(pack(entries.RegionEpoch(1, "w", 1.0))), rows.RegionEpoch)


def test_counts_are_kept_not_counted(tmp_path: Path) -> None:
    store, projection = Store(tmp_path / "read.db"), placed()
    for _ in store.write(projection.take(), {"ledger": ("x", 2)}):
        pass
    projection.ledger(3, Settled(5.0, "east", 1, [Where("east", 7, [REF])], []))
    for _ in store.write(projection.take(), {"ledger": ("x", 3)}):
        pass
    assert query.total(store.db, None) == query.total(store.db, "completed") == 1
    assert query.total(store.db, "pending") == 0
    assert store.positions() == {"ledger": ("x", 3)}
    store.close()


def test_a_file_has_one_writer_and_another_layout_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "web" / "read.db"
    store = Store(path)
    with pytest.raises(Busy):
        Store(path)
    store.db.execute("INSERT INTO counts VALUES ('ready', 7)")
    store.close()
    again = Store(path)
    assert again.counts() == {Stage.READY: 7}
    again.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    other = Store(path)
    assert other.counts() == {}
    other.close()
    path.write_bytes(b"no database at all" * 1000)
    damaged = Store(path)
    assert damaged.counts() == {}
    damaged.close()


def test_rows_survive_their_encoding() -> None:
    row = rows.Row(Stage.RETRYING, delegation=7, worker="w", due=1.5)
    assert astuple(rows.row_of(pack(row))) == astuple(row)
