"""The data folder: one user at a time, kept passwords, formats, and who runs here."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from echelon_infra.settings import resolve
from echelon_ops import ports
from echelon_ops.find import nats_address, web_address
from echelon_ops.folder import FORMAT, Folder, FolderError, Process, Run, nearest, running
from echelon_ops.up import DEMO, DRAIN_S, Refused, app_of, plan, specs


def run(data: Path) -> Run:
    return Run(
        pid=os.getpid(),
        started_at=1.0,
        nats_url="nats://echelon:secret@127.0.0.1:4222",
        url="http://127.0.0.1:8000",
        data=str(data),
        regions=["east"],
        processes={"master": Process(1, "x.log")},
    )


def test_a_second_one_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    first = Folder(tmp_path)
    first.announce(run(tmp_path))
    with pytest.raises(FolderError, match=rf"process {os.getpid()}, http://127.0.0.1:8000"):
        Folder(tmp_path)
    first.close()
    Folder(tmp_path).close()


def test_a_newer_format_is_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(str(FORMAT + 1))
    with pytest.raises(FolderError, match=f"format {FORMAT + 1}"):
        Folder(tmp_path)
    (tmp_path / "format").write_text(str(FORMAT))
    Folder(tmp_path).close()


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be used: "):
        Folder(tmp_path / "file")
    (tmp_path / "format").write_text("one")
    with pytest.raises(FolderError, match="no number"):
        Folder(tmp_path)


def test_port_and_password_are_kept_and_private(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    made = folder.make_server(4222)
    folder.announce(run(tmp_path))
    for name in ("nats.json", "run.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert folder.server() == made
    assert folder.make_server(4300).password == made.password
    folder.close()


def test_what_runs_is_found_upwards_and_only_while_it_runs(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    folder = Folder(tmp_path / ".echelon")
    assert nearest(below) is None
    folder.announce(run(folder.path))
    found = nearest(below)
    assert found is not None and found.url == "http://127.0.0.1:8000"
    folder.close()  # as a kill -9 would: run.json is still there
    assert running(folder.path) is None
    assert (folder.path / "run.json").exists()


def test_an_address_is_looked_for_in_order(tmp_path: Path) -> None:
    nothing = resolve(environ={}, folder=tmp_path)
    said = resolve(environ={"ECHELON_URL": "http://e:1/", "NATS_URL": "nats://n:1"}, folder=tmp_path)
    assert web_address(None, nothing, tmp_path).address == "http://127.0.0.1:8000"
    assert nats_address(nothing, tmp_path).address == "nats://127.0.0.1:4222"
    folder = Folder(tmp_path / ".echelon")
    folder.announce(run(folder.path))
    assert nats_address(nothing, tmp_path).address == "nats://echelon:secret@127.0.0.1:4222"
    assert web_address(None, said, tmp_path).address == "http://e:1"
    assert nats_address(said, tmp_path).address == "nats://n:1"
    assert web_address("http://arg:2", said, tmp_path).address == "http://arg:2"
    folder.close()


def test_emptying_leaves_the_lock_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "x").write_text("x")
    folder.empty()
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]
    folder.close()


def test_a_default_port_moves_on_and_one_asked_for_does_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not ports.is_free("127.0.0.1", port)
        assert ports.choose("127.0.0.1", port, asked=False, flag="--port") > port
        with pytest.raises(ports.PortTaken, match=f"Port {port} .* --port"):
            ports.choose("127.0.0.1", port, asked=True, flag="--port")
    assert ports.is_free("127.0.0.1", ports.choose("127.0.0.1", 0, asked=True, flag="--port"))


def test_the_app_is_a_file_a_module_or_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.touch()
    assert app_of(str(file)) == str(file)
    assert app_of("shop.jobs") == "shop.jobs"
    assert app_of("") == DEMO
    with pytest.raises(Refused, match="there is no file"):
        app_of("nowhere.py")


def test_every_process_is_told_its_region_and_nothing_relative(tmp_path: Path) -> None:
    resolved = resolve({"regions": "eu,us", "workers": 2}, environ={}, folder=tmp_path)
    settings = plan(resolved, cores=8)
    assert settings.data.is_absolute()
    assert settings.drain_timeout_s == DRAIN_S
    assert settings.processes == 2
    folder = Folder(tmp_path / ".echelon")
    names = [spec.name for spec in specs(settings, folder, {})]
    folder.close()
    assert names == [
        "master",
        "regional-eu",
        "regional-us",
        "worker-eu-1",
        "worker-eu-2",
        "worker-us-1",
        "worker-us-2",
        "web",
    ]


def test_a_drain_timeout_that_was_asked_for_holds(tmp_path: Path) -> None:
    resolved = resolve({"drain_timeout": "3"}, environ={}, folder=tmp_path)
    assert plan(resolved, cores=1).drain_timeout_s == 3.0
