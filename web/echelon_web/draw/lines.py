"""Lines over time: the small ones beside a number, and the chart of what comes in and goes out."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 100.0, 28.0


def spark(values: Sequence[float], health: str = "") -> Markup:
    """The last hour beside a number; coloured by `health` only if that is bad or warn."""
    points = _points(values, max([*values, 1e-9]))
    mark = Markup(' data-health="{}"').format(health) if health in ("bad", "warn") else Markup()
    return Markup(
        '<svg class="e-spark" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true"{}>'
        '<polygon points="0,27 {} 100,27"/><polyline points="{}"/></svg>'
    ).format(mark, points, points)


def in_and_out(came: Sequence[float], went: Sequence[float], top: float) -> Markup:
    """Two lines in one box, 0 to `top`; where more came than went the ground between is tinted."""
    over = [f"{x},{_chart_y(value, top)}" for x, value in _spread(came)]
    under = [f"{x},{_chart_y(min(a, b), top)}" for (x, a), b in zip(_spread(came), went, strict=True)]
    return Markup(
        '<svg class="e-plot" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="grid" d="M0 1H1000M0 50H1000M0 99H1000"/>'
        '<polygon class="grows" points="{} {}"/>'
        '<polyline class="k-2" points="{}"/><polyline class="k-ink" points="{}"/></svg>'
    ).format(
        " ".join(over),
        " ".join(reversed(under)),
        " ".join(over),
        " ".join(f"{x},{_chart_y(value, top)}" for x, value in _spread(went)),
    )


def nice(value: float) -> float:
    """A round number not below `value`, for the top of an axis.

    >>> nice(0), nice(7), nice(130), nice(561)
    (1.0, 10.0, 200.0, 1000.0)
    """
    power = 1.0
    while power * 10 < value:
        power *= 10
    for step in (1, 2, 5, 10):
        if value <= step * power:
            return step * power
    return value


def _spread(values: Sequence[float]) -> list[tuple[float, float]]:
    last = max(1, len(values) - 1)
    return [(round(1000 * place / last, 1), value) for place, value in enumerate(values)]


def _chart_y(value: float, top: float) -> float:
    return round(99 - 98 * min(1.0, value / top), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - 2 - (HEIGHT - 6) * value / top, 1)


def _points(values: Sequence[float], top: float) -> str:
    flat = values if len(values) > 1 else [0.0, 0.0]
    last = len(flat) - 1
    return " ".join(f"{round(WIDTH * place / last, 1)},{_y(value, top)}" for place, value in enumerate(flat))
