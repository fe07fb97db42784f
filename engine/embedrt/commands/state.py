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
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


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


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two keys, one "name: old, now new" each."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} was {_shown(before)}, now {_shown(after)}")
    return found


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 24 else text[:20] + "..."
