"""What a worker asks for, when what it got was not for it to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.eventually import eventually
from support.worker_lab import always, worker_lab, yours


@pytest.mark.parametrize("word", ["over", "wait"])
async def test_a_lane_whose_only_message_was_not_to_run_asks_again(tmp_path: Path, word: str) -> None:
    """A lane of one slot has one pull open; a doubtful message uses it up and may come to nothing."""
    async with worker_lab(tmp_path) as lab:
        lab.answer = always(word)
        await lab.release("blocking", 1)  # before the worker: doubtful
        await lab.start()
        await eventually(lambda: lab.questions)
        lab.answer = yours
        later = await lab.release("blocking", 1)
        assert [ran.status for ran in await lab.ended(later, timeout_s=5)] == [0]
