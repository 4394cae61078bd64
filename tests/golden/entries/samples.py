"""One entry of each kind, as release 0.2 writes it. Never edit a sample of a release that is out.

`just golden` writes the .bin files that are missing and refuses to change one that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from echelon.wire.api import Backoff, End, Options, Submission, Where
from echelon.wire.child import Bundle, Error, Input, Outcomes, Ran, Run, Started
from echelon_core import entries as e

HERE = Path(__file__).resolve().parent

_OPTIONS = Options(60.0, 5, "east", "gpu", ("a", "b"), "acme", Backoff("linear", 2.0, 3.0, 40.0, 0.5), False)
_TASK = Submission("mail.send", b'{"to":"a"}', "task-a", 7, ("b", "c"), _OPTIONS, "p-1", 5, "00-1-2-01")
_DEPENDENCY = e.Dependency(7, "ok", "east", 9)
_INPUT = Input("task-b", 2048, "west", 17, b"[1]")

_MORE = e.More("p-1", [_INPUT], "00-1-2-01")
_RUN = Run(1024, 12289, "t", b"{}", 300.0, 1, "task-a", "p-1", [_INPUT], False, "00-1")

SAMPLES: dict[str, dict[str, Any]] = {
    "0.2": {
        "ledger-epoch": e.Epoch(3, "writer-1", 1700000000.5),
        "ledger-admitted": e.Admitted(
            1700000000.5,
            [e.AdmittedGroup("key", "_INBOX.x", [_TASK, Submission("t")], {1: 1024}, {0: [_DEPENDENCY]})],
        ),
        "ledger-delegated": e.Delegated(
            1700000000.5,
            "east",
            [
                e.Item(1024, "t", b"{}", 5),
                e.Item(1025, "t", None, 10, "task-a", _OPTIONS, 2, 1, 99, _MORE),
            ],
        ),
        "ledger-cancel": e.Cancel(1700000000.5, "east", [(1024, 12)], "ana", "typo"),
        "ledger-withdrawn": e.Withdrawn(1700000000.5, "east", [(1024, 12)]),
        "ledger-settled": e.Settled(
            1700000000.5,
            "east",
            77,
            [Where("east", 5, [1024, 1025])],
            [End(1026, "failed", "dependency_failed", "task-a", "east", 6)],
            [e.Moved(1027, 1, 2, True)],
        ),
        "ledger-redriven": e.Redriven(1700000000.5, 1024, _TASK, [e.Dependency(7)], "ana"),
        "region-epoch": e.RegionEpoch(3, "writer-1", 1700000000.5),
        "region-verdicts": e.Verdicts(
            10,
            20,
            1700000000.5,
            [(20, [1024, 1025])],
            [e.Ended(1026, 12289, "dead", "timeout", 19, 4, 0)],
            [e.Again(1027, 12290, "error", 1700000002.5, 1, 0, 18)],
            [e.Returned(1028, 1, 2)],
        ),
        "wire-bundle": Bundle(True, [_RUN]),
        "wire-outcomes": Outcomes(
            "w1",
            [
                Ran(1024, 12289, 0, b"null", 1.5, 2.5),
                Ran(1025, 12290, 1, b"", 1.5, 2.5, Error("ValueError", "no", "Traceback"), "r-1"),
            ],
            [Started(1026, 12291, 3.5)],
        ),
    }
}  # fmt: skip


def write_missing() -> int:
    """Write what is not there; exit 1 if today's code would write something else than what is."""
    changed = 0
    for release, samples in SAMPLES.items():
        for name, entry in samples.items():
            path = HERE / release / f"{name}.bin"
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_bytes(e.encode(entry))
                print(f"wrote {release}/{name}.bin")
            elif path.read_bytes() != e.encode(entry):
                print(f"{release}/{name}.bin: written otherwise today; the old bytes stay and must be read")
                changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(write_missing())
