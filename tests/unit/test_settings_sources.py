"""Which source wins, what is refused, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon_infra.settings import (
    ALIASES,
    TABLE,
    BadSettings,
    Settings,
    hand_down,
    handed_down,
    parse_size,
    resolve,
)


def write(folder: Path, *, toml: str = "", dotenv: str = "") -> None:
    (folder / "echelon.toml").write_text(toml)
    (folder / ".env").write_text(dotenv)


@pytest.mark.parametrize(
    ("toml", "dotenv", "environ", "flags", "port", "origin"),
    [
        ("", "", {}, {}, 8000, None),
        ("port = 1", "", {}, {}, 1, "echelon.toml"),
        ("port = 1", "ECHELON_PORT=2", {}, {}, 2, ".env"),
        ("port = 1", "API_PORT=2", {}, {}, 2, ".env"),
        ("port = 1", "API_PORT=2\nECHELON_PORT=3", {}, {}, 3, ".env"),
        ("port = 1", "ECHELON_PORT=2", {"API_PORT": "3"}, {}, 3, "environment"),
        ("port = 1", "ECHELON_PORT=2", {"API_PORT": "3", "ECHELON_PORT": "4"}, {}, 4, "environment"),
        ("port = 1", "ECHELON_PORT=2", {"ECHELON_PORT": "4"}, {"port": "5"}, 5, "flag"),
        ("port = 1", "", {"ECHELON_PORT": ""}, {}, 1, "echelon.toml"),
    ],
)
def test_sources_first_then_names(
    tmp_path: Path,
    toml: str,
    dotenv: str,
    environ: dict[str, str],
    flags: dict[str, object],
    port: int,
    origin: str | None,
) -> None:
    write(tmp_path, toml=toml, dotenv=dotenv)
    resolved = resolve(flags, environ=environ, folder=tmp_path)
    assert resolved.settings.port == port
    assert resolved.origins.get("port") == origin


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_every_founding_name_reaches_its_setting(tmp_path: Path, alias: str) -> None:
    given = {
        "API_HOST": ("127.0.0.9", "127.0.0.9"),
        "API_PORT": ("9000", 9000),
        "NATS_URL": ("nats://n:1", "nats://n:1"),
        "MAX_WORKERS": ("7", 7),
        "TASK_TIMEOUT": ("11", 11.0),
        "HEARTBEAT_INTERVAL": ("3", 3.0),
        "LOG_LEVEL": ("WARNING", "warning"),
    }
    text, value = given[alias]
    resolved = resolve(environ={alias: text}, folder=tmp_path)
    assert getattr(resolved.settings, TABLE[ALIASES[alias]].field) == value


def test_debug_counts_in_dotenv_alone(tmp_path: Path) -> None:
    assert resolve(environ={"DEBUG": "true"}, folder=tmp_path).settings.log_level == "info"
    write(tmp_path, dotenv="DEBUG=true")
    assert resolve(environ={}, folder=tmp_path).settings.log_level == "debug"
    assert resolve(environ={"LOG_LEVEL": "error"}, folder=tmp_path).settings.log_level == "error"


def test_foreign_keys_in_dotenv_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, dotenv="POSTGRES_PASSWORD=x\nPATH=/nowhere")
    assert resolve(environ={"HOME": "/root"}, folder=tmp_path).settings == Settings()


@pytest.mark.parametrize(
    ("toml", "environ", "source", "name", "near"),
    [
        ("prot = 1", {}, "echelon.toml", "prot", "port"),
        ("", {"ECHELON_PROT": "1"}, "environment", "ECHELON_PROT", "ECHELON_PORT"),
        ("", {"ECHELON_TASK_TIMEOUTS": "1"}, "environment", "ECHELON_TASK_TIMEOUTS", "ECHELON_TASK_TIMEOUT"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    tmp_path: Path, toml: str, environ: dict[str, str], source: str, name: str, near: str
) -> None:
    write(tmp_path, toml=toml)
    with pytest.raises(BadSettings) as caught:
        resolve(environ=environ, folder=tmp_path)
    (problem,) = caught.value.problems
    assert (problem.source, problem.name) == (source, name)
    assert f"Did you mean {near}?" in problem.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ECHELON_PORT", "eight"),
        ("ECHELON_PORT", "70000"),
        ("TASK_TIMEOUT", "0"),
        ("TASK_TIMEOUT", "nan"),
        ("TASK_TIMEOUT", "700000"),
        ("HEARTBEAT_INTERVAL", "-1"),
        ("MAX_WORKERS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("ECHELON_REGIONS", "east,east"),
        ("ECHELON_REGIONS", "_ours"),
        ("ECHELON_REGIONS", "0"),
        ("ECHELON_REGION", "a.b"),
        ("ECHELON_PROCESSES", "2..16"),
        ("ECHELON_REPLICAS", "2"),
        ("ECHELON_BACKLOG_BYTES", "2 gigs"),
        ("ECHELON_INSECURE", "perhaps"),
    ],
)
def test_a_bad_value_names_its_source(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadSettings) as caught:
        resolve(environ={name: value}, folder=tmp_path)
    (problem,) = caught.value.problems
    assert (problem.source, problem.name) == ("environment", name)
    assert value in problem.message


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, toml="prot = 1\nport = 'x'")
    with pytest.raises(BadSettings) as caught:
        resolve({"workers": "-1"}, environ={"ECHELON_POTR": "1"}, folder=tmp_path)
    assert {problem.source for problem in caught.value.problems} == {"echelon.toml", "environment", "flag"}
    assert len(caught.value.problems) == 4


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    write(tmp_path, toml="port = = 1")
    with pytest.raises(BadSettings, match=r"echelon\.toml.*line 1"):
        resolve(environ={}, folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "regions"),
    [
        ("east,west", ("east", "west")),
        (" eu , us ", ("eu", "us")),
        ("1", ("east",)),
        (3, ("east", "west", "north")),
        ("5", ("east", "west", "north", "south", "region-5")),
        (["a", "b"], ("a", "b")),
    ],
)
def test_regions_are_names_or_a_number(tmp_path: Path, given: object, regions: tuple[str, ...]) -> None:
    assert resolve({"regions": given}, environ={}, folder=tmp_path).settings.regions == regions


@pytest.mark.parametrize(
    ("text", "size"), [("10", 10), ("64k", 64_000), ("2GiB", 2 * 1024**3), ("1.5 MB", 1_500_000)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_what_is_handed_down_comes_back_equal(tmp_path: Path) -> None:
    settings = resolve(
        {"regions": "a,b", "data": "/tmp/x"}, environ={"TASK_TIMEOUT": "2.5"}, folder=tmp_path
    ).settings
    assert handed_down(hand_down(settings)) == settings
    assert handed_down({}) is None


def test_what_is_not_needed_is_said_once(tmp_path: Path) -> None:
    notes = resolve(environ={"DATABASE_URL": "postgres://", "REDIS_URL": ""}, folder=tmp_path).notes
    assert len(notes) == 1
    assert notes[0].startswith("DATABASE_URL is set and not used")


def test_what_a_later_version_brings_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    (note,) = resolve(environ={"METRICS_ENABLED": "true"}, folder=tmp_path).notes
    assert note == "METRICS_ENABLED is set: a later version serves metrics."


def test_every_setting_has_a_meaning_and_a_name_of_its_own() -> None:
    for key, row in TABLE.items():
        assert row.description.endswith("."), key
        assert not row.field.endswith("_s") or row.unit == "s", key
    assert set(ALIASES.values()) <= set(TABLE)
