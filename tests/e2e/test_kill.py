"""Each process is killed while tasks run, and nothing is lost or counted twice: `just kill`, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.kill import Plan, run


@pytest.mark.timeout(300)
async def test_whatever_is_killed_each_task_ends_once(tmp_path: Path) -> None:
    verdict = await run(Plan(tasks=3000, seed=5), tmp_path)
    assert verdict.sound, str(verdict)
