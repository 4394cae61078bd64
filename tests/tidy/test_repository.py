"""What must never be committed, and what the pages must keep."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidy.source import PACKAGES, ROOT

FORBIDDEN_FILES = re.compile(r"(^|/)(uv\.lock|package-lock\.json|.+\.min\.(js|css)|\.echelon/.*)$")
HOSTS = ("files.python" + "hosted", "registry.npm" + "js", "pypi.org/" + "simple")
PARTS = ("Question", "Known", "Decision", "Considered", "Price", "We were wrong if")
TEXT = {".py", ".md", ".toml", ".html", ".css", ".js", ".json", ".sh", ".mjs", ".sql", ".yaml", ".yml", ""}


def committed() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git work tree: nothing is committed here")
    return done.stdout.splitlines()


def forbidden(names: list[str]) -> list[str]:
    return [name for name in names if FORBIDDEN_FILES.search(name)]


def hosts(text: str) -> Iterator[str]:
    yield from (host for host in HOSTS if host in text)


def test_no_lock_file_and_no_vendored_file_is_committed() -> None:
    assert not (bad := forbidden(committed())), (
        f"{bad}: made by tools, and they name hosts. Put them in .gitignore."
    )


def test_no_registry_host_is_written_down() -> None:
    texts = {
        name: ROOT / name for name in committed() if Path(name).suffix in TEXT and (ROOT / name).is_file()
    }
    bad = {
        name: found
        for name, path in texts.items()
        if (found := list(hosts(path.read_text(errors="replace"))))
    }
    assert not bad, f"{bad}: which registry to ask is the affair of whoever installs."


def test_the_guards_bite() -> None:
    assert forbidden(["web/x.min.js", "uv.lock", "a/package-lock.json", ".echelon/nats/x"])
    assert not forbidden(["web/x.js", "package.json"])
    assert list(hosts("https://" + HOSTS[0] + ".org/x"))


@pytest.mark.parametrize("room", sorted(set(PACKAGES.values())))
def test_every_room_has_its_page(room: str) -> None:
    page = ROOT / room / "README.md"
    assert page.is_file(), (
        f"{room}/README.md is missing: what the room knows, decides, promises, on one page."
    )
    assert len(page.read_text().splitlines()) <= 80, f"{page} is longer than a page."


def test_the_readme_holds_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install uv && uv run echelon up" in text and "pip install uv && uv run pytest" in text


def test_decision_records_have_their_form() -> None:
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert records
    for number, record in enumerate(records, 1):
        text = record.read_text()
        assert record.name.startswith(f"{number:04}-") and text.startswith(f"# {number}. "), record.name
        missing = [part for part in PARTS if f"**{part}" not in text]
        assert not missing, f"{record.name} lacks {missing}."
