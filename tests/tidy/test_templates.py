"""Pages: what a user typed stays text, and the content security policy needs no exception."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidy.source import ROOT, relative

BANNED = {
    r"\|\s*safe\b": "let Jinja escape it; what we draw is Markup made in echelon_web/draw",
    r"\{%\s*autoescape\s+false": "let Jinja escape it",
    r"\sstyle\s*=": "a class in the style sheet: the policy forbids inline styles",
    r"<style\b": "the style sheet in static/: the policy forbids inline styles",
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")": "a file in static/: no inline scripts",
    r"\son[a-z]+\s*=\s*[\"']": "addEventListener in a file of static/",
    r"javascript:": "a link to a page, or a listener in a file of static/",
    r"(?:src|href)\s*=\s*[\"'](?:https?:)?//": "a vendored file: no page needs another host",
}


def breaches(text: str) -> Iterator[tuple[int, str, str]]:
    for pattern, mend in BANNED.items():
        for found in re.finditer(pattern, text, re.IGNORECASE):
            yield text.count("\n", 0, found.start()) + 1, found.group().strip(), mend


@pytest.mark.parametrize("path", sorted((ROOT / "web/echelon_web").rglob("*.html")), ids=relative)
def test_templates_escape_and_hold_no_inline_code(path: Path) -> None:
    found = [
        f"{relative(path)}:{line}: {what!r} is banned here: use {mend}."
        for line, what, mend in breaches(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "{{ error|safe }}",
        "{{ error | safe }}",
        '<div class="a" style="x">',
        "<script>go()</script>",
        '<a onclick="go()">',
        '<a href="javascript:go()">',
        '<script src="https://cdn.example/x.js"></script>',
    ],
)
def test_the_guard_bites(line: str) -> None:
    assert list(breaches(line))


def test_the_guard_leaves_honest_markup_alone() -> None:
    good = (
        '<script src="/static/live.js"></script><a href="/tasks">safe</a>'
        '<script type="application/json">{{ x|tojson }}</script>'
    )
    assert not list(breaches(good))
