"""The wheels hold what is no Python too: templates, SQL, the vendored front-end files, the type markers.

Building them fetches npm packages, so it is done once a run and only where CI is set (or ECHELON_WHEEL=1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tidy.source import PACKAGES, ROOT

pytestmark = pytest.mark.skipif(
    not (os.environ.get("CI") or os.environ.get("ECHELON_WHEEL")) or shutil.which("uv") is None,
    reason="builds wheels: set ECHELON_WHEEL=1 to run it (needs uv and the network)",
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in both wheels."""
    out = tmp_path_factory.mktemp("wheels")
    done = subprocess.run(
        ["uv", "build", "--wheel", "--all-packages", "--out-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name for wheel in out.glob("*.whl") for name in zipfile.ZipFile(wheel).namelist()}


def test_whatever_lies_in_a_package_is_in_its_wheel(wheels: set[str]) -> None:
    expected = {
        path.relative_to(ROOT / room).as_posix()
        for package, room in PACKAGES.items()
        for path in (ROOT / room / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not (missing := expected - wheels), f"not in the wheel: {sorted(missing)}"


def test_pages_sql_and_vendored_files_are_there(wheels: set[str]) -> None:
    assert {"echelon/py.typed", "echelon_web/readmodel/schema.sql", "echelon_vendor/manifest.json"} <= wheels
    assert {Path(name).suffix for name in wheels if name.startswith("echelon_vendor/")} >= {".js", ".css"}
    assert any(name.startswith("echelon_web/pages/") and name.endswith(".html") for name in wheels)
