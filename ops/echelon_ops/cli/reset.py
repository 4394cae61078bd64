"""`echelon reset`: forget everything that a data folder holds."""

from __future__ import annotations

import sys
from typing import Any

import click

from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, setting, settings_from
from echelon_ops.cli.output import Failure, note, show_json


@command(epilog=exits("0 emptied", "2 not confirmed", "3 Echelon runs there"))
@setting("data", "FOLDER")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def reset(yes: bool, as_json: bool, **given: Any) -> int:
    """Empty the data folder: all tasks, results and logs are gone.

    \b
    $ echelon reset --yes
    """
    from echelon_ops.folder import Folder, FolderError

    path = settings_from(given).settings.data.resolve()
    if not path.is_dir():
        raise Failure(f"There is no data folder {path}; --data names another.", 4)
    if not (path / "format").exists() and any(entry.name != "lock" for entry in path.iterdir()):
        raise Failure(f"{path} was not made by Echelon; it is left alone.", 2)
    if not yes:
        if not sys.stdin.isatty():
            raise Failure("Nobody is here to be asked. Give --yes to empty the folder.", 2)
        note(f"This deletes every task, result and log in {path}.")
        if not click.confirm("Empty it?", err=True):
            raise Failure("Nothing was deleted.", 2)
    try:
        folder = Folder(path)
    except FolderError as error:
        raise Failure(str(error), 3) from None
    try:
        folder.empty()
    finally:
        folder.close()
    if as_json:
        show_json({"emptied": str(path)})
    else:
        print(f"{path} is empty.")
    return 0
