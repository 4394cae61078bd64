"""What stands in a log is read for ever: round trips, appended fields, and the bytes of earlier releases."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echelon.wire.api import Submit, SubmitAnswer, fingerprint
from echelon.wire.child import OK, Bundle, Outcomes, Ran, Started, bundle, join, needs_errands, outcomes
from echelon.wire.codec import pack
from echelon_core import entries
from golden.entries.samples import HERE, SAMPLES
from support import structs

LEDGER = get_args(entries.LedgerEntry)
REGION = get_args(entries.RegionEntry)
CORE = (
    entries.Room,
    entries.WorkerInfo,
    entries.Claim,
    entries.RollCall,
    entries.Question,
    entries.Verdict,
    entries.Stop,
)
GOLDEN = [(release, name) for release, samples in SAMPLES.items() for name in samples]


@pytest.mark.parametrize("kind", [*LEDGER, *REGION, *CORE, Bundle, Outcomes, Submit, SubmitAnswer])
def test_what_is_written_is_read(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=25)
    @given(structs.of(kind))
    def round_trip(entry: msgspec.Struct) -> None:
        assert msgspec.msgpack.decode(entries.encode(entry), type=kind) == entry

    round_trip()


@pytest.mark.parametrize(("kinds", "read"), [(LEDGER, entries.ledger_entry), (REGION, entries.region_entry)])
def test_entries_of_a_log_are_told_apart(kinds: tuple[type[msgspec.Struct], ...], read: Any) -> None:
    @settings(max_examples=60)
    @given(st.one_of([structs.of(kind) for kind in kinds]))
    def told_apart(entry: msgspec.Struct) -> None:
        found = read(entries.encode(entry))
        assert type(found) is type(entry) and found == entry

    told_apart()


def decoder_of(name: str) -> Any:
    match name.split("-")[0]:
        case "ledger":
            return entries.ledger_entry
        case "region":
            return entries.region_entry
        case _:
            return bundle if name == "wire-bundle" else outcomes


@pytest.mark.parametrize(("release", "name"), GOLDEN)
def test_bytes_of_earlier_releases_are_read(release: str, name: str) -> None:
    """A red test here means that an old log cannot be replayed: append fields, each with a default."""
    data = (HERE / release / f"{name}.bin").read_bytes()
    assert decoder_of(name)(data) == SAMPLES[release][name]


@pytest.mark.parametrize(("release", "name"), GOLDEN)
def test_an_old_reader_skips_what_a_newer_writer_appends(release: str, name: str) -> None:
    fields = msgspec.msgpack.decode((HERE / release / f"{name}.bin").read_bytes())
    assert decoder_of(name)(pack([*fields, {"of": "a later release"}])) == SAMPLES[release][name]


def test_every_entry_of_every_log_has_golden_bytes() -> None:
    samples = {type(entry) for of_release in SAMPLES.values() for entry in of_release.values()}
    assert {*LEDGER, *REGION, Bundle, Outcomes} <= samples, "add a sample and run `just golden`"


@given(
    st.text(max_size=20),
    st.lists(st.lists(structs.of(Ran), max_size=4), max_size=4),
    st.lists(structs.of(Started), max_size=3),
)
def test_joined_outcomes_are_what_encoding_them_together_gives(
    worker: str, parts: list[list[Ran]], starts: list[Started]
) -> None:
    """The supervisor joins what children encoded without opening it."""
    joined = join(worker, [(len(part), b"".join(map(pack, part))) for part in parts], starts)
    assert outcomes(joined) == Outcomes(worker, [ran for part in parts for ran in part], starts)


def test_a_full_message_of_outcomes_is_joined_too() -> None:
    item = pack(Ran(1, 2, OK, b"null", 0.0, 1.0))
    assert len(outcomes(join("w", [(70_000, item * 70_000)])).ran) == 70_000


@given(structs.of(Bundle))
def test_errands_are_seen_without_decoding(message: Bundle) -> None:
    assert needs_errands(pack(message)) == message.errands


def test_what_the_user_said_is_the_fingerprint_and_defaults_are_filled_in() -> None:
    from echelon.wire.api import DEFAULTS, Submission

    plain = Submission("t", b"{}", id="a", dependencies=("b", "c"))
    same = Submission("t", b"{}", id="a", dependencies=("c", "b", "c"), options=DEFAULTS, traceparent="00-1")
    assert fingerprint(plain) == fingerprint(same)
    others = [
        Submission("u", b"{}", id="a", dependencies=("b", "c")),
        Submission("t", b"{ }", id="a", dependencies=("b", "c")),
        Submission("t", b"{}", id="a", dependencies=("b",)),
        Submission("t", b"{}", id="a", dependencies=("b", "c"), priority=6),
    ]
    assert all(fingerprint(other) != fingerprint(plain) for other in others)
