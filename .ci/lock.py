"""Write constraints.txt: every package of the running environment, pinned.

python .ci/lock.py constraints.txt
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

_HEADER = """\
# Every package of the developer environment (Linux, Python 3.11). Written by `make lock`; do not edit.
# To update: remove the line of a package, install the newer one into .venv, then `make lock`.
"""
# Not part of it: this project itself.
_LEFT_OUT = frozenset({"embedrt"})


def pins() -> list[str]:
    """ "name==version" of all installed packages, sorted; local version labels (torch's "+cpu") are left out."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        found[name] = distribution.version.partition("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in _LEFT_OUT]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python .ci/lock.py FILE")
    Path(sys.argv[1]).write_text(_HEADER + "\n".join(pins()) + "\n", encoding="utf-8")
