"""The `stcompile` command, for installations with and without the command line's own dependencies."""

from __future__ import annotations

import sys

from stcompile.errors import MissingExtraError
from stcompile.extras import require


def main() -> None:
    """Runs the command line; its exit codes are 0 done, 1 parity failed, 2 bad input or usage."""
    try:
        require("typer", "The command line")
        require("rich", "The command line")
    except MissingExtraError as error:
        sys.stderr.write(f"stcompile: {error}\n")
        sys.exit(2)
    from stcompile.cli.app import run  # noqa: PLC0415 - typer may be missing

    run()


if __name__ == "__main__":
    main()
