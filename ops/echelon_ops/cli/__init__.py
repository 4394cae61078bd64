"""The command line: one file a noun, loaded only when it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script `echelon`."""
    from echelon_ops.cli.root import run

    sys.exit(run(sys.argv[1:]))
