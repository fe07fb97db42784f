"""What counts as the name of a model, and where its bundle is kept. Pure but for one look whether a path is there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from embedrt.errors import OptionError

HOME_VARIABLE = "EMBEDRT_HOME"
_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[\w./-]+))?", re.ASCII)
_SEPARATOR = "--"  # between owner and name, as the hub's own cache writes it


@dataclass(frozen=True)
class Name:
    """A model, or a bundle, on the hub."""

    repo: str  # "OWNER/NAME"
    revision: str | None = None  # branch, tag or commit; None is the newest

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"

    @property
    def folder(self) -> str:
        """The folder's name in the store."""
        return str(self).replace("/", _SEPARATOR)


def as_name(text: str | Path) -> Name | None:
    """The name that `text` is; None where it is a path.

    It is a path where something lies there, or where its first folder does: "bundles/e5", misspelt, should not reach
    the network.
    """
    found = _NAME.fullmatch(str(text).replace(os.sep, "/"))
    if found is None or Path(text).exists() or Path(found["repo"].partition("/")[0]).exists():
        return None
    return Name(found["repo"], found["revision"])


def parse_name(text: str) -> Name:
    """The name that `text` must be.

    Raises:
        OptionError: it is none.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise OptionError(f"{text!r} is no name of the hub: OWNER/NAME, or OWNER/NAME@REVISION")
    return Name(found["repo"], found["revision"])


def home() -> Path:
    """EMBEDRT_HOME, else embedrt in XDG_CACHE_HOME, else ~/.cache/embedrt. The only setting that the library reads
    from the environment: it says where this user keeps things, not what is computed."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "embedrt"
