"""One Echelon for all tests that leave it as they found it; whoever breaks things starts an own one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import Cluster

APP = Path(__file__).with_name("app.py")


def app_in(folder: Path) -> Path:
    """A copy of the handlers: what they write lies beside it."""
    return Path(shutil.copy(APP, folder / "app.py"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two regions, a worker in each with one process for sync tasks."""
    folder = tmp_path_factory.mktemp("echelon")
    made = Cluster(folder, app=app_in(folder), more=["--processes", "1"])
    try:
        asyncio.run(made.start())
        yield made
        code = asyncio.run(made.stop())
        assert code == 0, f"echelon up ended with {code}:\n{made.said()}"
        asyncio.run(made.vanished())
    finally:
        made.end()
