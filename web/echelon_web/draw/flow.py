"""The hierarchy: widths of lines are rates, cells are workers filled by their busy slots."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

CELLS = 24


def width(per_s: float, most: float) -> float:
    """Of a line, in pixels: 1 for nothing, up to 6."""
    return round(1 + 5 * (per_s / most) ** 0.5, 1) if most > 0 else 1.0


def links(rates: Sequence[float], row: int) -> Markup:
    """From the master to each region, `row` units high."""
    most = max(rates, default=0.0)
    middle = row * len(rates) / 2
    paths = Markup().join(
        Markup('<path d="M0 {}C36 {} 28 {} 64 {}" stroke-width="{}"/>').format(
            middle, middle, row * (place + 0.5), row * (place + 0.5), width(rate, most)
        )
        for place, rate in enumerate(rates)
    )
    return Markup(
        '<svg class="e-links" viewBox="0 0 64 {}" preserveAspectRatio="none" data-rows="{}"'
        ' aria-hidden="true">{}</svg>'
    ).format(row * len(rates), min(8, len(rates)), paths)


def arrow(per_s: float, most: float, health: str = "") -> Markup:
    mark = Markup(' data-health="{}"').format(health) if health in ("bad", "warn") else Markup()
    return Markup(
        '<svg class="e-arrow" viewBox="0 0 60 12" preserveAspectRatio="none" aria-hidden="true">'
        '<path d="M0 6H54" stroke-width="{}"{}/><path class="tip" d="M53 1.5 60 6l-7 4.5z"{}/></svg>'
    ).format(width(per_s, most), mark, mark)


def cells(workers: Sequence[tuple[int, int, str]]) -> Markup:
    """(busy, slots, active | draining | silent) of each worker; the first `CELLS` of them."""
    parts = []
    for place, (busy, slots, state) in enumerate(workers[:CELLS]):
        x = place * 11
        if state == "silent":
            parts.append(
                Markup('<path class="gone" d="M{}.6 .6h7.8v20.8h-7.8zM{} 17l5-12"/>').format(x, x + 2)
            )
        elif state == "draining":
            parts.append(Markup('<rect class="drain" x="{}.5" y=".5" width="8" height="21"/>').format(x))
        else:
            share = min(1.0, busy / slots) if slots else 0.0
            high = round(22 * share, 1)
            kind = "full" if share >= 0.98 else "use"
            parts.append(
                Markup(
                    '<rect class="box" x="{}" width="9" height="22"/>'
                    '<rect class="{}" x="{}" y="{}" width="9" height="{}"/>'
                ).format(x, kind, x, round(22 - high, 1), high)
            )
    wide = max(11, 11 * len(parts))
    return Markup(
        '<svg class="e-cells" viewBox="0 0 {} 22" width="{}" height="22" aria-hidden="true">{}</svg>'
    ).format(wide, wide, Markup().join(parts))


def meter(share: float, health: str = "") -> Markup:
    """A bar of which `share` (0 to 1) is filled."""
    mark = Markup(' data-health="{}"').format(health) if health else Markup()
    return Markup(
        '<svg class="e-meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="100" height="6"/><rect class="v" width="{}" height="6"{}/></svg>'
    ).format(round(100 * max(0.0, min(1.0, share)), 1), mark)
