"""One task over time: where its time went, and its runs, worker by worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from echelon_web.pages.words import clock, duration
from echelon_web.readmodel.query import Attempt, Task

LANES: Final = 6
_LEFT, _RIGHT, _ROW = 112.0, 790.0, 36


class Part(NamedTuple):
    """A stretch of a task's life. `kind`: needs place queue run backoff lost."""

    kind: str
    start: float
    end: float


class Share(NamedTuple):
    kind: str
    name: str
    seconds: float
    percent: float


NAMES: Final = {
    "needs": "Dependencies",
    "place": "Place",
    "queue": "Queue",
    "run": "Run",
    "backoff": "Backoff",
    "lost": "Lost run",
}
_CLASS: Final = {"needs": "s1", "place": "s0", "queue": "s2", "run": "run", "backoff": "s1", "lost": "lost"}


def parts(task: Task, end: float) -> list[Part]:
    """The life of a task from its admission to `end`, without gaps."""
    row, created = task.row, task.submitted.created
    attempts = [attempt for attempt in task.attempts if attempt.started]
    first = attempts[0].started if attempts else end
    placed = row.placed if row.placements == 1 and created <= row.placed <= first else 0.0
    kind = "needs" if task.submitted.dependencies else "place"
    made = [Part(kind, created, placed or first), Part("queue", placed or first, first)]
    for place, attempt in enumerate(attempts):
        follows = attempts[place + 1].started if place + 1 < len(attempts) else end
        stop = min(attempt.ended or (follows if attempt.outcome == "lost" else end), follows)
        made.append(Part("lost" if attempt.outcome == "lost" else "run", attempt.started, stop))
        due = min(max(attempt.due, stop), follows)
        if attempt is not attempts[-1] or task.live:
            made += [Part("backoff", stop, due), Part("queue", due, follows)]
    return [part for part in made if part.end > part.start]


def shares(found: Sequence[Part]) -> list[Share]:
    total = sum(part.end - part.start for part in found) or 1.0
    seconds = {kind: 0.0 for kind in NAMES}
    for part in found:
        seconds[part.kind] += part.end - part.start
    return [
        Share(kind, NAMES[kind], spent, 100 * spent / total) for kind, spent in seconds.items() if spent > 0
    ]


def swatch(kind: str, guilty: str) -> Markup:
    return Markup(
        '<svg class="sw" viewBox="0 0 8 8" aria-hidden="true"><rect class="{}" width="8" height="8"/></svg>'
    ).format(_paint(kind, guilty))


def bar(found: Sequence[Part], guilty: str) -> Markup:
    """Where the time went; only the guilty part is strong."""
    total = sum(part.end - part.start for part in found) or 1.0
    said = ", ".join(f"{share.name} {duration(share.seconds)}" for share in shares(found))
    x, drawn = 0.0, []
    for part in found:
        wide = 1000 * (part.end - part.start) / total
        drawn.append(
            Markup('<rect class="{}" x="{}" width="{}" height="28"/><line x1="{}" x2="{}" y2="28"/>').format(
                _paint(part.kind, guilty), round(x, 1), round(wide, 1), round(x + wide, 1), round(x + wide, 1)
            )
        )
        x += wide
    return Markup(
        '<svg class="e-lat" viewBox="0 0 1000 28" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(said, Markup().join(drawn))


def _paint(kind: str, guilty: str) -> str:
    return "blame" if kind == guilty and kind in ("queue", "backoff", "needs", "place") else _CLASS[kind]


def runs(task: Task, end: float, now: float) -> Markup:
    """The runs over time: a lane for the queue, one for each worker."""
    attempts = [attempt for attempt in task.attempts if attempt.started][-12:]
    workers = list(dict.fromkeys(attempt.worker or "?" for attempt in attempts))[-LANES:]
    begin = task.submitted.created
    span = max(end - begin, 1e-6)
    names = [f"{task.row.region or 'no region'} queue", *workers]
    high = 21 + _ROW * len(names) + 20

    def x(at: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT - 110) * min(1.0, max(0.0, (at - begin) / span)), 1)

    drawn = [_lane(place, name) for place, name in enumerate(names)]
    for part in range(5):
        at = begin + span * part / 4
        said_at = clock(at, now)[-8:] if span > 8 else f"+{duration(at - begin)}" if part else "0"
        drawn.append(_tick(said_at, x(at), high))
    before = begin
    for number, attempt in enumerate(task.attempts, 1):
        if attempt not in attempts or (attempt.worker or "?") not in workers:
            continue
        lane = 34 + _ROW * (1 + workers.index(attempt.worker or "?"))
        drawn.append(_run(number, attempt, x(before), x(attempt.started), x(attempt.ended or end), lane))
        before = attempt.ended or end
    if task.live and before < end:
        drawn.append(Markup('<path class="wait" d="M{} 34H{}"/>').format(x(before), x(end)))
    said = "; ".join(
        f"run {number} {attempt.outcome or 'under way'} on {attempt.worker or 'an unknown worker'}"
        for number, attempt in enumerate(task.attempts, 1)
    )
    return Markup('<svg class="e-line" viewBox="0 0 800 {}" role="img" aria-label="{}">{}</svg>').format(
        high, said or "no run yet", Markup().join(drawn)
    )


def _lane(place: int, name: str) -> Markup:
    y = 21 + _ROW * place
    return Markup(
        '<rect class="lane" x="{}" y="{}" width="{}" height="26" rx="3"/>'
        '<text class="t-2 t-12" x="0" y="{}">{}</text>'
    ).format(_LEFT, y, 800 - _LEFT, y + 17, name[:16] + ("…" if len(name) > 16 else ""))


def _tick(text: str, x: float, high: int) -> Markup:
    return Markup(
        '<line class="grid" x1="{0}" x2="{0}" y1="18" y2="{1}"/><text class="t-m" x="{0}" y="{2}">{3}</text>'
    ).format(x, high - 18, high - 4, text)


def _run(number: int, attempt: Attempt, before: float, start: float, end: float, lane: int) -> Markup:
    stage = STAGE_OF.get(attempt.outcome, "running")
    icon = "s-lost" if attempt.outcome == "lost" else f"s-{stage}"
    wide = max(2.0, round(end - start, 1))
    return Markup(
        '<path class="wait" d="M{before} 34H{start}"/><path class="turn" d="M{start} 34V{lane}"/>'
        '<g data-stage="{stage}"><rect class="bar" x="{start}" y="{top}" width="{wide}" height="12" rx="2"/>'
        '<use class="gl" href="#{icon}" x="{ix}" y="{iy}" width="14" height="14"/>'
        '<text class="t-c t-12" x="{tx}" y="{ty}">run {number} {word}</text></g>'
    ).format(
        before=before, start=start, lane=lane, stage=stage, top=lane - 6, wide=wide, icon=icon,
        ix=start + wide + 8, iy=lane - 7, tx=start + wide + 27, ty=lane + 4,
        number=number, word=attempt.outcome or "under way",
    )  # fmt: skip


STAGE_OF: Final = {
    "success": "completed",
    "failure": "failed",
    "timeout": "failed",
    "cancelled": "cancelled",
    "lost": "expired",
    None: "running",
}
