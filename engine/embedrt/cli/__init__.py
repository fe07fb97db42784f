"""The command `embedrt`: argument parsing only. What the commands do is in `embedrt.commands`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 usage, 130 interrupted.

    `args` are the arguments after the program's name; None takes them from sys.argv.
    """
    from embedrt.cli.app import app

    try:
        app.main(args=None if args is None else list(args), prog_name="embedrt")
    except SystemExit as exc:  # click always leaves this way
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
