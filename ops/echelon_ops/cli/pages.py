"""Help as a page. Imported when someone asks for help: drawing costs more than most commands do."""

from __future__ import annotations

import click
from rich_click import RichCommand, RichContext, RichGroup, RichHelpConfiguration

_COLUMNS = 76
_LOOK = RichHelpConfiguration(
    width=_COLUMNS,
    max_width=_COLUMNS,
    text_markup=None,
    text_paragraph_linebreaks="\n\n",
    show_arguments=True,
    style_options_panel_box="BLANK",
    style_commands_panel_box="BLANK",
    arguments_panel_title="",
    options_panel_title="",
    commands_panel_title="",
)


class _InOrder(RichGroup):
    """The order of a help is ours, not the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def page(command: click.Command, ctx: click.Context) -> str:
    """The help of a command, drawn by its rich twin."""
    twin: RichCommand
    if isinstance(command, click.Group):
        twin = _InOrder(name=command.name, help=command.help, params=command.params, epilog=command.epilog)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None, name
            twin.add_command(below, name)
    else:
        twin = RichCommand(name=command.name, help=command.help, params=command.params, epilog=command.epilog)
    drawn = RichContext(
        twin,
        parent=ctx.parent,
        info_name=ctx.info_name,
        help_option_names=ctx.help_option_names,
        rich_help_config=_LOOK,
    )
    return twin.get_help(drawn)
