"""`python -m embedrt` is the command `embedrt`."""

from __future__ import annotations

import sys

from embedrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
