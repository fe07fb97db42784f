"""What a model is called: a directory named "model" or after a commit says nothing, its card or the hub's cache do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CACHE = re.compile(r"models--(?P<id>[^/]+)/snapshots/(?P<revision>[^/]+)$")  # of huggingface_hub
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
# What programs and people call any model's directory.
_ANY_MODEL = re.compile(
    r"((my|the)[-_ ]?)?(final|best|trained|saved|exported|merged|base|new|old|hf|st)?[-_ ]?"
    r"(model|models|encoder|checkpoint|checkpoints|snapshot|snapshots|weights|output|outputs|out|final|best|latest|main|"
    r"tmp|temp|data|src|app|home|root|downloads?|build|dist|0_transformer|transformer)"
    r"([-_ ]?(v?\d+|dir|files))?",
    re.IGNORECASE,
)
_TEMPORARY = re.compile(r"tmp[a-z0-9_]{6,}")  # Python's tempfile
# One word with a digit or a sign in it: "# all-MiniLM-L6-v2" is a name, "# Usage" and "# {MODEL_NAME}" are none.
_IDENTIFIER = re.compile(r"(?=.*[-_.\d])[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class ModelName:
    """A model's name and where it was found."""

    name: str  # OWNER/NAME, or NAME alone
    revision: str | None = None  # commit, where the hub's cache says it
    source: str | None = None  # what said it, where that was not the directory's own name


def find_name(path: Path, stored_as: str = "") -> ModelName | None:
    """The name of the model in the directory `path`; None where nothing says it.

    Asked in this order: the hub's cache, the directory's name, the model's card, `stored_as` (config.json's
    _name_or_path, what its program called it as it loaded it), the directory around.
    """
    absolute = path.absolute()
    for place in (absolute, absolute.resolve()):
        found = _CACHE.search(place.as_posix())
        if found:
            return ModelName(found["id"].replace("--", "/"), found["revision"], "the hub's cache")
    resolved = absolute.resolve()
    if says_something(absolute.name):
        return ModelName(absolute.name)
    if says_something(resolved.name):
        return ModelName(resolved.name)
    for name in _names_of_card(path / "README.md"):
        return ModelName(name, source="its card")
    if _IDENTIFIER.fullmatch(stored_as) and says_something(stored_as.rpartition("/")[2]):
        return ModelName(stored_as, source="config.json's _name_or_path")
    if says_something(resolved.parent.name) and _IDENTIFIER.fullmatch(resolved.parent.name):
        return ModelName(resolved.parent.name, source="the directory around")
    return None


def says_something(name: str) -> bool:
    """Whether a directory's name can be a model's."""
    return not (not name or _ANY_MODEL.fullmatch(name) or _COMMIT.fullmatch(name) or _TEMPORARY.fullmatch(name))


def _names_of_card(card: Path) -> Iterator[str]:
    """The name that a card's front matter gives (model-index or model_name), then its title."""
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    matter, body = "", text
    if text.startswith("---"):
        _, matter, body = (*re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE), "", "")[:3]
    named = re.search(r"^model-index:\s*\n(?:\s*#.*\n)*\s*-\s+name:\s*(.+)$", matter, re.MULTILINE)
    titled = re.search(r"^#{1,2}\s+(.+?)\s*#*$", body, re.MULTILINE)
    for found in (named, re.search(r"^model_name:\s*(.+)$", matter, re.MULTILINE), titled):
        name = found[1].strip().strip("\"'") if found else ""
        if _IDENTIFIER.fullmatch(name) and says_something(name.rpartition("/")[2]):
            yield name
