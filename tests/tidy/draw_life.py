"""Draws `docs/learn/life.md` from the table of core/life. `just docs` runs it; a stale page is a red test."""

from __future__ import annotations

from collections import defaultdict

from echelon_core.life import LIVE, TRANSITIONS, Event, Stage, status
from tidy.source import ROOT

PAGE = ROOT / "docs/learn/life.md"

EVENTS = {
    Event.BECAME_READY: "its dependencies have ended as it needs them",
    Event.DEPENDENCY_FAILED: "a dependency did not end well",
    Event.DELEGATED: "the master gave it to a region",
    Event.RETURNED: "the region gave it back, or was lost: the master places it again",
    Event.RELEASED: "the region put it into its work queue",
    Event.STARTED: "a worker began it",
    Event.SUCCEEDED: "the handler returned",
    Event.ERRED: "a run ended badly and others are left",
    Event.DIED: "no runs are left, or none may follow",
    Event.TAKEN_BACK: "its worker was lost or handed it back; no run is charged",
    Event.DUE: "the wait before the next run is over",
    Event.CANCELLED: "someone wanted its end",
    Event.EXPIRED: "it was not begun in time",
    Event.REDRIVEN: "someone wanted another series of runs",
}
HEAD = """\
# The life of a task

Drawn from the table in `core/echelon_core/life.py` by `just docs`. Whoever asks what a task may become asks
that table: the schedulers, the read model behind the API, and this page. An event that the table does not
know in a stage comes too late to matter and changes nothing: delivery is at least once.

The releases of a region stand in no log (its work queue is their record), so a reader may see the end of a
run whose queueing it never saw; those arrows are in the table too.
"""


def page() -> str:
    arrows: dict[tuple[Stage, Stage], list[Event]] = defaultdict(list)
    for (stage, event), after in TRANSITIONS.items():
        arrows[stage, after].append(event)
    lines = [
        HEAD,
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {Stage.WAITING}",
        f"    [*] --> {Stage.READY}",
    ]
    for (stage, after), events in arrows.items():
        lines.append(f"    {stage} --> {after}: {', '.join(events)}")
    lines += ["```", "", "| stage | status | leaves by |", "|---|---|---|"]
    for stage in Stage:
        leaves = [f"{event} → {after}" for (before, event), after in TRANSITIONS.items() if before == stage]
        lines.append(f"| {stage} | {status(stage)} | {' · '.join(leaves) or 'nothing: this is an end'} |")
    lines += ["", "| event | what happened |", "|---|---|"]
    lines += [f"| {event} | {EVENTS[event]} |" for event in Event]
    ends = ", ".join(stage for stage in Stage if stage not in LIVE)
    lines += ["", f"Ends: {ends}. All but a completed task can be redriven."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
