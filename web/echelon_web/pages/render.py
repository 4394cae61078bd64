"""Templates: a page, or one of its live parts. First paint and live updates render the same blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import echelon_vendor  # type: ignore[import-untyped]  # made by the build: files and no code
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.runtime import Macro
from jinja2_fragments import render_block
from litestar import Response

from echelon_web.pages import words

_env: Final = Environment(
    loader=PackageLoader("echelon_web", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_env.globals["words"] = words
_macros: Final = _env.get_template("macros.html").module
_env.globals.update({name: part for name, part in vars(_macros).items() if isinstance(part, Macro)})


def _edition() -> str:
    """Changes with any static file: they are cached for ever under this name."""
    found = hashlib.sha256()
    for folder in (Path(str(files("echelon_web").joinpath("static"))), Path(echelon_vendor.__file__).parent):
        for path in sorted(folder.glob("*.*")):
            if path.suffix in (".css", ".js", ".svg"):
                found.update(path.read_bytes())
    return found.hexdigest()[:12]


_env.globals["edition"] = _edition()


def page(template: str, context: Mapping[str, Any], status_code: int = 200) -> Response[str]:
    return Response(
        _env.get_template(template).render(**context),
        status_code=status_code,
        media_type="text/html; charset=utf-8",
        headers={"Cache-Control": "no-store"},
    )


def part(template: str, block: str, context: Mapping[str, Any]) -> str:
    """One live part: an element whose id is `live-` and the block's name."""
    text: str = render_block(_env, template, block, **context)
    return text.strip()
