"""Every line of a log is one JSON object, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from echelon_infra.telemetry import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged; afterwards everything is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook
    yield io.StringIO()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level, sys.excepthook = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_tier_event_and_the_bound_fields(stream: io.StringIO) -> None:
    logs.configure(fields={"region": "east", "worker": "w1"}, stream=stream)
    logs.get("worker").info("leased", task="t-1", ttl_s=6.0)
    (line,) = lines(stream)
    assert str(line.pop("at")).endswith("Z")
    assert line == {
        "level": "info",
        "tier": "worker",
        "event": "leased",
        "task": "t-1",
        "ttl_s": 6.0,
        "region": "east",
        "worker": "w1",
    }


def test_levels_below_the_chosen_one_are_silent(stream: io.StringIO) -> None:
    logs.configure("warning", stream=stream)
    log = logs.get("master")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_libraries_speak_the_same_form_from_warnings_on(stream: io.StringIO) -> None:
    logs.configure(fields={"region": "west"}, stream=stream)
    logging.getLogger("nats").info("chatter")
    logging.getLogger("nats").warning("lost %s", "it")
    (line,) = lines(stream)
    assert (line["tier"], line["event"], line["level"], line["region"]) == (
        "nats",
        "lost it",
        "warning",
        "west",
    )


def test_a_traceback_stays_on_the_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    try:
        raise ValueError("no")
    except ValueError:
        logs.get("web").exception("broken")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ValueError: no" in str(line["exception"])


def test_what_json_does_not_know_is_written_by_its_repr(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.get("web").info("odd", value=object)
    assert lines(stream)[0]["value"] == "<class 'object'>"


def test_text_is_for_people(stream: io.StringIO) -> None:
    logs.configure(form="text", stream=stream)
    logs.get("web").info("listening", port=8000)
    assert stream.getvalue().strip().endswith("info     web       listening port=8000")


def test_an_uncaught_exception_is_a_line_too() -> None:
    code = "from echelon_infra.telemetry import logs; logs.configure(); raise ValueError('so it ends')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert done.returncode == 1
    assert line["level"] == "critical" and "so it ends" in line["exception"]


def test_servers_do_not_import_rich() -> None:
    code = "import sys; import echelon_infra.telemetry.logs; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
