"""A task among those it needs and those that need it: a few of each, the rest as a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from echelon_web.readmodel.query import Needed

SHOWN: Final = 4
_W, _H, _GAP, _X2 = 150, 36, 12, 193


def neighbours(
    kind: str, stage: str, needs: Sequence[Needed], all_needs: int, needed_by: Sequence[Needed], all_by: int
) -> Markup:
    """`needs` and `needed_by` hold at most `SHOWN`; the totals say how many there are."""
    left = [_box(0, _row(place), one) for place, one in enumerate(needs)]
    if all_needs > len(needs):
        left.append(_more(0, _row(len(left)), all_needs - len(needs)))
    middle = _row(max(0, len(left) - 1)) / 2
    below = [_box(_X2, middle + (_H + _GAP) * (place + 1), one) for place, one in enumerate(needed_by)]
    if all_by > len(needed_by):
        below.append(_more(_X2, middle + (_H + _GAP) * (len(below) + 1), all_by - len(needed_by)))
    edges = [
        Markup('<path class="edge" d="M{} {}H166C176 {} 172 {} 182 {}H190"/>').format(
            _W, _row(place) + 18, _row(place) + 18, middle + 18, middle + 18
        )
        for place in range(len(left))
    ]
    if below:
        edges.append(
            Markup('<path class="edge later" d="M268 {}V{}"/>').format(middle + _H, middle + _H + _GAP)
        )
    this = Markup(
        '<g class="node crit" data-stage="{}"><rect class="box" x="{}" y="{}" width="{}" height="{}" rx="4"/>'
        "{}</g>"
    ).format(stage, _X2, middle + 0.5, _W, _H, _label(_X2, middle, stage, kind, "this task"))
    high = max(_row(len(left) - 1) + _H if left else 0, middle + _H + (_H + _GAP) * len(below)) + 1
    return Markup(
        '<svg class="e-dag" viewBox="0 0 344 {}" width="100%" role="group" aria-label="Dependencies">'
        "{}{}{}{}</svg>"
    ).format(high, Markup().join(edges), Markup().join(left), this, Markup().join(below))


def _row(place: int) -> int:
    return place * (_H + _GAP)


def _box(x: float, y: float, one: Needed) -> Markup:
    return Markup(
        '<a href="/ui/tasks/{}"><g class="node" data-stage="{}">'
        '<rect class="box" x="{}" y="{}" width="{}" height="{}" rx="4"/>{}</g></a>'
    ).format(one.id, one.stage, x + 0.5, y + 0.5, _W, _H, _label(x, y, one.stage, one.type, one.id))


def _label(x: float, y: float, stage: str, first: str, second: str) -> Markup:
    return Markup(
        '<use class="gl" href="#s-{}" x="{}" y="{}" width="14" height="14"/>'
        '<text class="t-ink t-12" x="{}" y="{}">{}</text><text x="{}" y="{}">{}</text>'
    ).format(stage, x + 8.5, y + 11.5, x + 28.5, y + 15.5, _cut(first), x + 28.5, y + 29.5, _cut(second))


def _more(x: float, y: float, count: int) -> Markup:
    return Markup('<text class="t-2 t-12" x="{}" y="{}">and {:,} more</text>').format(x + 8, y + 22, count)


def _cut(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:17]}…"
