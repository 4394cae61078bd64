"""Stories of tasks. Together they take every arrow of the table, or the test is red."""

from __future__ import annotations

import pytest

from echelon_core.life import LIVE, TERMINAL, TRANSITIONS, Event, Stage, status, step

E, S = Event, Stage
ADMITTED, DELEGATED = [E.BECAME_READY], [E.BECAME_READY, E.DELEGATED]
QUEUED = [*DELEGATED, E.RELEASED]
RUNNING = [*QUEUED, E.STARTED]
RETRYING = [*RUNNING, E.ERRED]

STORIES: dict[str, tuple[list[Event], Stage]] = {
    "a task that lasts": ([*RUNNING, E.SUCCEEDED], S.COMPLETED),
    "a short task, its start rides with its end": ([*QUEUED, E.SUCCEEDED], S.COMPLETED),
    "its dependency failed": ([E.DEPENDENCY_FAILED], S.FAILED),
    "it errs, waits and succeeds": ([*RETRYING, E.DUE, E.RELEASED, E.STARTED, E.SUCCEEDED], S.COMPLETED),
    "it errs at once until no runs are left": ([*QUEUED, E.ERRED, E.DUE, E.RELEASED, E.DIED], S.FAILED),
    "it dies while it runs": ([*RUNNING, E.DIED], S.FAILED),
    "its worker is lost before it began": ([*QUEUED, E.TAKEN_BACK, E.RELEASED, E.SUCCEEDED], S.COMPLETED),
    "its worker is lost while it runs": ([*RUNNING, E.TAKEN_BACK], S.DELEGATED),
    "its region is drained": ([*DELEGATED, E.RETURNED, E.DELEGATED], S.DELEGATED),
    "its region is lost with it in the queue": ([*QUEUED, E.RETURNED], S.READY),
    "its region is lost while it runs": ([*RUNNING, E.RETURNED], S.READY),
    "its region is lost while it waits to retry": ([*RETRYING, E.RETURNED], S.READY),
    "its region is lost when it had no run left": ([*RUNNING, E.RETURNED, E.DIED], S.FAILED),
    "a reader sees a start without a release": ([*DELEGATED, E.STARTED], S.RUNNING),
    "a reader sees an end without a release": ([*DELEGATED, E.SUCCEEDED], S.COMPLETED),
    "a reader sees an error without a release": ([*DELEGATED, E.ERRED], S.RETRYING),
    "a reader sees a death without a release": ([*DELEGATED, E.DIED], S.FAILED),
    "a reader sees a hand-back without a release": ([*DELEGATED, E.TAKEN_BACK], S.DELEGATED),
    "a reader sees the next start before it is due": ([*RETRYING, E.STARTED], S.RUNNING),
    "a reader sees the next end before it is due": ([*RETRYING, E.SUCCEEDED], S.COMPLETED),
    "a reader sees the next error before it is due": ([*RETRYING, E.ERRED], S.RETRYING),
    "a reader sees the last death before it is due": ([*RETRYING, E.DIED], S.FAILED),
    "a reader sees the next hand-back before it is due": ([*RETRYING, E.TAKEN_BACK], S.DELEGATED),
    "cancelled while it waits": ([E.CANCELLED], S.CANCELLED),
    "cancelled when ready": ([*ADMITTED, E.CANCELLED], S.CANCELLED),
    "cancelled in its region": ([*DELEGATED, E.CANCELLED], S.CANCELLED),
    "cancelled in the queue": ([*QUEUED, E.CANCELLED], S.CANCELLED),
    "cancelled while it runs": ([*RUNNING, E.CANCELLED], S.CANCELLED),
    "cancelled between two runs": ([*RETRYING, E.CANCELLED], S.CANCELLED),
    "expired while it waits": ([E.EXPIRED], S.EXPIRED),
    "expired when ready": ([*ADMITTED, E.EXPIRED], S.EXPIRED),
    "expired in its region": ([*DELEGATED, E.EXPIRED], S.EXPIRED),
    "expired in the queue": ([*QUEUED, E.EXPIRED], S.EXPIRED),
    "expired between two runs": ([*RETRYING, E.EXPIRED], S.EXPIRED),
    "redriven after it failed": ([*RUNNING, E.DIED, E.REDRIVEN, E.DELEGATED, E.SUCCEEDED], S.COMPLETED),
    "redriven after it was cancelled": ([E.CANCELLED, E.REDRIVEN], S.READY),
    "redriven after it expired": ([E.EXPIRED, E.REDRIVEN], S.READY),
}


def live(events: list[Event]) -> tuple[Stage, set[tuple[Stage, Event]]]:
    stage, taken = S.WAITING, set()
    for event in events:
        after = step(stage, event)
        assert after is not None, f"{event} means nothing in {stage}"
        taken.add((stage, event))
        stage = after
    return stage, taken


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_as_it_should(story: str) -> None:
    events, end = STORIES[story]
    assert live(events)[0] == end


def test_the_stories_take_every_arrow() -> None:
    taken = {arrow for events, _ in STORIES.values() for arrow in live(events)[1]}
    missing = sorted(f"{stage} --{event}-->" for stage, event in TRANSITIONS.keys() - taken)
    assert not missing, f"Tell a story that takes: {missing}"


@pytest.mark.parametrize("event", sorted(set(Event) - {E.REDRIVEN}))
@pytest.mark.parametrize("stage", sorted(TERMINAL))
def test_what_comes_after_the_end_changes_nothing(stage: Stage, event: Event) -> None:
    assert step(stage, event) is None


def test_a_completed_task_cannot_be_redriven() -> None:
    assert step(S.COMPLETED, E.REDRIVEN) is None


def test_every_stage_has_a_coarse_word_and_only_ends_are_terminal() -> None:
    assert {status(stage) for stage in LIVE} == {"pending", "running"}
    assert {status(stage) for stage in TERMINAL} == {"completed", "failed", "cancelled"}
