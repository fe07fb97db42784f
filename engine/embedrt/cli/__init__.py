"""The command `embedrt`: argument parsing only. What the commands do is in `embedrt.commands`."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 usage, 130 interrupted.

    `args` are the arguments after the program's name; None takes them from sys.argv.
    """
    from embedrt.cli.app import app

    for stream in (sys.stdin, sys.stdout, sys.stderr):  # files and pipes hold UTF-8 whatever the locale is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                encoding="utf-8", errors="backslashreplace" if stream is sys.stderr else "surrogateescape"
            )
    try:
        app.main(args=None if args is None else list(args), prog_name="embedrt")
    except SystemExit as exc:  # click always leaves this way
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
