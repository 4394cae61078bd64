"""`echelon`: finds the command, loads it, and turns what goes wrong into a sentence and an exit code.

0 done · 1 the task failed · 2 bad arguments or input · 3 refused · 4 not found · 5 no server
6 stopped at once · 7 timed out waiting
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from echelon_infra.process import BAD_INPUT, STOPPED_AT_ONCE
from echelon_infra.settings import BadSettings, nearest
from echelon_ops.cli.command import Group
from echelon_ops.cli.output import Failure, complain

COMMANDS: Final = {
    "up": "echelon_ops.cli.up",
    "submit": "echelon_ops.cli.submit",
    "task": "echelon_ops.cli.tasks",
    "tasks": "echelon_ops.cli.tasks",
    "cancel": "echelon_ops.cli.tasks",
    "retry": "echelon_ops.cli.tasks",
    "workers": "echelon_ops.cli.cluster",
    "regions": "echelon_ops.cli.cluster",
    "demo": "echelon_ops.cli.demo",
    "doctor": "echelon_ops.cli.doctor",
    "config": "echelon_ops.cli.config",
    "reset": "echelon_ops.cli.reset",
    "master": "echelon_ops.cli.tiers",
    "regional": "echelon_ops.cli.tiers",
    "worker": "echelon_ops.cli.tiers",
    "web": "echelon_ops.cli.tiers",
}
"""Command -> the module it stands in, in the order in which help shows them."""


class Commands(Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"There is no command {args[0]!r}.{nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="echelon-server", prog_name="echelon", message="%(prog)s %(version)s")
def echelon() -> None:
    """Echelon: a task scheduler on NATS JetStream.

    \b
    $ echelon up                            a whole Echelon on this machine
    $ echelon submit add '{"a": 2, "b": 3}' --wait
    $ echelon demo census                   real work to watch
    """


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line."""
    as_json = "--json" in arguments
    try:
        code = echelon.main(args=list(arguments), prog_name="echelon", standalone_mode=False)
    except Failure as failure:
        complain(failure, as_json=as_json)
        return failure.code
    except BadSettings as bad:
        complain(Failure("\n".join(map(str, bad.problems)), BAD_INPUT), as_json=as_json)
        return BAD_INPUT
    except click.UsageError as error:
        where = f" See `{error.ctx.command_path} --help`." if error.ctx is not None else ""
        complain(Failure(error.format_message() + where, BAD_INPUT), as_json=as_json)
        return BAD_INPUT
    except click.ClickException as error:
        complain(Failure(error.format_message(), BAD_INPUT), as_json=as_json)
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        return STOPPED_AT_ONCE
    except BrokenPipeError:
        sys.stderr.close()  # whoever reads us has gone; there is nobody to tell
        return 0
    return code if isinstance(code, int) else 0
