"""Runs, medians, spread, and the limits they are held against. Figures, not tests: a machine may be busy."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

LIMITS = Path(__file__).with_name("limits.toml")


class Figure(NamedTuple):
    """One thing measured, once for each run. `name` is its key in limits.toml, if it has a limit."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{rounded(min(self.values))}–{rounded(max(self.values))}"


def rounded(value: float) -> str:
    """
    >>> rounded(0.12345), rounded(12.345), rounded(12345.6)
    ('0.123', '12.3', '12,346')
    """
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def limits() -> dict[str, Mapping[str, object]]:
    return tomllib.loads(LIMITS.read_text())


def held(figure: Figure, limit: Mapping[str, object]) -> tuple[str, bool]:
    """The limit in words, and whether the median keeps it."""
    if "at_most" in limit:
        bound = float(str(limit["at_most"]))
        return f"≤ {rounded(bound)}", figure.median <= bound
    bound = float(str(limit["at_least"]))
    return f"≥ {rounded(bound)}", figure.median >= bound


def table(title: str, figures: Iterable[Figure]) -> str:
    """A table in markdown."""
    known = limits()
    lines = [f"### {title}", "", "| figure | median | spread | runs | limit | |", "|---|---|---|---|---|---|"]
    for figure in figures:
        words, kept = held(figure, known[figure.name]) if figure.name in known else ("", True)
        verdict = "" if not words else "kept" if kept else "**broken**"
        value = f"{rounded(figure.median)} {figure.unit}".strip()
        lines.append(
            f"| {figure.name} | {value} | {figure.spread} | {len(figure.values)} | {words} | {verdict} |"
        )
    return "\n".join([*lines, ""])


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used, with children that they have buried."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def rss(pids: Iterable[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)
