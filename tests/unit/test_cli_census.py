"""What the census counts, by hand-counted sources."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from echelon_ops.demo.census import shown
from echelon_ops.demo.count import count_file, report, source_files

SOURCE = """
import os, sys
from json import loads
from . import near

class A:
    def f(self):
        for x in y:
            try:
                with z:
                    pass
            except E:
                import re
        else:
            def g(): pass

async def h():
    if a:
        pass
    elif b:
        match c:
            case 1:
                pass
    else:
        pass
"""


def test_a_file_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(SOURCE)
    found = count_file(str(file), "x")
    assert found["parsed"]
    assert (found["functions"], found["classes"], found["imports"]) == (3, 1, 4)
    assert found["imported"] == {"os": 1, "sys": 1, "json": 1, "re": 1}
    assert found["nesting"] == 5  # class, def, for, try, with
    assert found["lines"] == SOURCE.count("\n")


@pytest.mark.parametrize("depth", [1, 3])
def test_elif_is_no_deeper_than_its_if(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "x.py"
    file.write_text("if a: pass\n" + "elif b: pass\n" * depth + "else:\n    if c: pass\n")
    assert count_file(str(file))["nesting"] == 2


@pytest.mark.parametrize("source", [b"print 'old'", b"\xff\xfe\x00", b"x = 0\x00", b"(" * 5000])
def test_what_does_not_parse_is_counted_as_such(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "x.py"
    file.write_bytes(source)
    found = count_file(str(file), "x")
    assert not found["parsed"] and found["reason"]
    assert report([found])["totals"]["unparsable"] == 1


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    files = []
    for number in range(20):
        file = tmp_path / f"m{number}.py"
        file.write_text("import os\n" * number + "def f(): pass\n")
        files.append(count_file(str(file), f"m{number % 7}"))
    shuffled = files[:]
    random.Random(7).shuffle(shuffled)
    assert report(files) == report(shuffled)
    assert report(files)["totals"]["functions"] == 20
    assert "20 files in 1.0 s" in shown(report(files), 1.0)


def test_only_the_library_is_counted(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/b.py", "site-packages/c.py", "pkg/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [module for _, module in source_files(tmp_path)] == ["a", "pkg"]


def test_nothing_is_no_error() -> None:
    assert report([])["totals"]["files"] == 0
