"""The public names, and what importing them brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import echelon
from echelon.discover import DEFAULT_URL, find, shown


def modules(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_public_name_is_there_and_sorted() -> None:
    assert sorted(echelon.__all__) == echelon.__all__
    for name in echelon.__all__:
        assert getattr(echelon, name).__module__.startswith("echelon.")
    assert set(echelon.__all__) <= set(dir(echelon))
    with pytest.raises(AttributeError):
        _ = echelon.nothing


def test_importing_wire_brings_neither_nats_nor_asyncio() -> None:
    loaded = modules("import echelon.wire.names, echelon.wire.check, echelon.wire.child, echelon.errors")
    assert not loaded & {"nats", "asyncio", "socket", "echelon.client", "echelon.tasks"}


def test_defining_tasks_brings_no_broker() -> None:
    loaded = modules("from echelon import task, Context, Fatal, remote")
    assert not loaded & {"nats", "echelon.client", "echelon.transport"}


def test_submodules_do_not_hide_public_names() -> None:
    """`import echelon.tasks` must not turn `echelon.task` into a module."""
    script = "import echelon.tasks, echelon.running, echelon.client, echelon.sync\n"
    script += "from echelon import task, context, Client\nassert callable(task) and callable(context)"
    subprocess.run([sys.executable, "-c", script], check=True)


def running(folder: Path, pid: int) -> Path:
    data = folder / ".echelon"
    data.mkdir(exist_ok=True)
    run = {"pid": pid, "nats_url": "nats://u:secret@127.0.0.1:5", "http_url": "http://x", "processes": {}}
    (data / "run.json").write_text(json.dumps(run))
    return data / "run.json"


def test_the_server_is_looked_for_in_order(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find(None, {}, inner).url == DEFAULT_URL
    path = running(tmp_path, os.getpid())
    found = find(None, {}, inner)
    assert found.url == "nats://u:secret@127.0.0.1:5"
    assert (str(path) in found.tried, "secret" in found.tried) == (True, False)
    environ = {"ECHELON_NATS_URL": "nats://n:1", "ECHELON_URL": "nats://e:1"}
    assert find(None, environ, inner).url == "nats://e:1"
    environ["ECHELON_URL"] = "http://web:8000"
    assert find(None, environ, inner).url == "nats://n:1"
    assert find("nats://given:1", environ, inner).url == "nats://given:1"
    del environ["ECHELON_NATS_URL"]
    assert "http://web:8000 (no NATS address)" in find(None, environ, inner).tried


def test_a_run_that_has_ended_is_passed_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    inner = tmp_path / "inner"
    inner.mkdir()
    running(inner, ended.pid)
    outer = running(tmp_path, os.getpid())
    assert str(outer) in find(None, {}, inner).tried
    outer.write_text("no json")
    place = find(None, {}, inner)
    assert place.url == DEFAULT_URL
    assert "nothing runs there" in place.tried


def test_addresses_are_shown_without_passwords() -> None:
    assert shown("nats://a:b@h:1,nats://c:d@k:2") == "nats://h:1,nats://k:2"
