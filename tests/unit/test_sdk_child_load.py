"""What a child says of the application it is given."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from echelon.wire.child import (
    FATAL,
    Kind,
)
from support.child_process import child


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from echelon import task\n1/0\n", "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        ("import sys\nsys.exit(4)\n", "SystemExit"),
        ("x = 1\n", "defines no task"),
        (
            "from echelon import task\n@task\ndef a(): ...\n@task(name='a')\ndef b(): ...\n",
            "Two tasks are named 'a'",
        ),
        ("from echelon import task\n@task(priority=99)\ndef a(): ...\n", "99 is not in 1 to 10"),
        ("from echelon import task\n@task\ndef a(): yield 1\n", "yields"),
    ],
)
def test_an_application_that_cannot_be_loaded_says_why(tmp_path: Path, text: str, said: str) -> None:
    app = tmp_path / "tasks.py"
    app.write_text(text)
    with child(app) as running:
        kind, _, _, body = running.read()
        assert kind == Kind.FAILED
        assert said in body.decode()
        assert str(app) in body.decode()
        assert "echelon/child" not in body.decode()
        assert running.process.wait(10) == 2


def test_applications_are_files_or_modules(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "jobs.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        import typing
        from echelon import task
        if typing.TYPE_CHECKING:
            from decimal import Decimal

        @task
        def job(late: Later, unknown: Decimal = None) -> None: ...

        class Later(typing.NamedTuple):
            x: int
        """)
    )
    for app in ("shop.jobs", "shop/jobs.py"):
        with child(app, cwd=tmp_path) as running:
            assert [info.name for info in running.hello().types] == ["job"]
            assert running.result("job", b'{"late":[1],"unknown":"1.5"}') is None
            assert running.one("job", b'{"late":["x"]}').status == FATAL
    with child("no.such.module", cwd=tmp_path) as running:
        assert "No module named" in running.read()[3].decode()
