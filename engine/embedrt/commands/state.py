"""What a killed `embed` leaves behind, so that `--resume` can go on where the last block ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from embedrt._schema import SchemaError, decode
from embedrt.errors import FileFormatError

STATE_FORMAT = 1


@dataclass(frozen=True)
class State:
    """A point between two blocks. The partial files are cut back to `positions` before going on."""

    key: dict[str, Any]  # input, options and identity: what must be the same to go on
    prefix_sha256: str  # over the texts of the rows done
    rows_done: int = 0  # records read and dealt with
    rows_written: int = 0
    rows_skipped: int = 0
    texts_cut: int = 0
    longest: tuple[int, int] = (0, 0)  # tokens, line of the longest text that was cut
    positions: dict[str, int] = field(default_factory=dict)  # partial file -> bytes
    renames: tuple[tuple[str, str], ...] = ()  # all is written; these remain to be done
    format: int = STATE_FORMAT


def save_json(path: Path, value: object) -> None:
    """Write JSON so that a reader, or a killed writer, finds either the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, ensure_ascii=False, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        exc.filename = exc.filename or str(path)
        raise


def save_state(path: Path, state: State) -> None:
    """Write the state file."""
    save_json(path, asdict(state))


def load_state(path: Path) -> State:
    """Read a state file.

    Raises:
        FileFormatError: it is not one, or another version's.
    """
    try:
        return decode(State, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, SchemaError) as exc:
        raise FileFormatError(f"{path} is no state of this embedrt ({exc}); start over with --force") from exc


_INPUT_TITLES = {
    "format": "the input's format",
    "pieces": "--long pieces (tokens, overlap)",
    **{name: f"--{name}" for name in ("column", "encoding", "delimiter", "quoting", "keep")},
}
# Options that are called otherwise on the command line; the others are --name.
_SPELLINGS = {"normalize_embeddings": "--normalize", "kind": "the kind of text"}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between the keys of two runs, in the words of the command line."""
    old, new = json.loads(json.dumps([old, new]))  # tuples are lists in a file
    before, after = old["input"], new["input"]
    found = [
        f"{title} was {_shown(before.get(name))}, now {_shown(after.get(name))}"
        for name, title in _INPUT_TITLES.items()
        if before.get(name) != after.get(name)
    ]
    if before.get("rules") != after.get("rules"):
        found.append("another version of embedrt read the input by other rules")
    if before.get("sha256") != after["sha256"]:
        found.append(f"the input has changed ({_size(before.get('bytes'))} then, {_size(after['bytes'])} now)")
    options, wanted = old.get("options", {}), new["options"]
    for name in sorted({*options, *wanted}):
        was, now = options.get(name), wanted.get(name)
        if was != now:
            title = _SPELLINGS.get(name, f"--{name.replace('_', '-')}")
            found.append(f"{title} was {_shown(was)}, now {_shown(now)}")
    if not found and old.get("identity") != new["identity"]:  # options change it too
        found.append(f"the bundle is another one: identity {old.get('identity')} then, {new['identity']} now")
    return found


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:36] + "..."


def _size(num_bytes: int | None) -> str:
    return "a pipe" if num_bytes is None else f"{num_bytes:,} bytes"
