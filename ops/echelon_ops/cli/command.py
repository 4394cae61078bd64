"""Commands whose help is a page. What draws it is loaded only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class Command(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        from echelon_ops.cli.pages import page

        return page(self, ctx)


class Group(click.Group):
    def get_help(self, ctx: click.Context) -> str:
        from echelon_ops.cli.pages import page

        return page(self, ctx)


def command(**named: Any) -> Callable[[Callable[..., Any]], Command]:
    """As `click.command`, with a page for help."""
    return click.command(cls=Command, **named)
