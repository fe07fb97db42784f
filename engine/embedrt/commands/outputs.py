"""The files beside an output of `embed`: partial ones, the state, and what a reader may want to know."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt import locks
from embedrt.commands.reading.records import Record
from embedrt.commands.state import State, save_json
from embedrt.commands.writers import WRITERS, AppendFile, NpyWriter, Shape, VectorWriter
from embedrt.errors import FileFormatError

_ROWS_SHAPE = Shape(0, "int64", False, {})


class OutputFiles:
    """Names derived from an output's: OUT.part.* while it is made, OUT.meta.json and the like when it is there."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.meta = _beside(output, ".meta.json")
        self.rows = _beside(output, ".rows.npy")
        self.skipped = _beside(output, ".skipped.jsonl")
        self.state = _beside(output, ".part.json")
        self.part = _beside(output, ".part")
        self.part_complete = _beside(output, ".part.parquet")
        self.part_meta = _beside(output, ".part.meta.json")
        self.part_rows = _beside(output, ".part.rows.npy")
        self.part_skipped = _beside(output, ".part.skipped.jsonl")

    def all(self) -> tuple[Path, ...]:
        """Every file that a run may write or remove."""
        return (
            self.output, self.meta, self.rows, self.skipped, self.state, self.part, self.part_complete,
            self.part_meta, self.part_rows, self.part_skipped,
        )  # fmt: skip

    def check_free(self, *, resume: bool, force: bool) -> None:
        """Refuse to overwrite what a run without --force must not.

        Raises:
            FileFormatError: the output is there, or an unfinished one.
        """
        if force or (resume and self.state.exists()):
            return
        if self.output.exists():
            raise FileFormatError(f"{self.output} exists; replace it with --force")
        if self.state.exists():
            raise FileFormatError(
                f"an earlier run left {self.part} unfinished; go on with --resume, or start over with --force"
            )

    def existing(self) -> tuple[Path, ...]:
        """The finished files that are there, the output first."""
        return tuple(path for path in (self.output, self.meta, self.rows, self.skipped) if path.exists())

    def made_with(self) -> dict[str, Any] | None:
        """The key of the run that made the output, if that is there and complete."""
        if self.state.exists() or not (self.output.exists() and self.meta.exists()):
            return None
        try:
            key = json.loads(self.meta.read_text(encoding="utf-8"))["key"]
        except (ValueError, TypeError, KeyError):
            return None
        return key if isinstance(key, dict) and isinstance(key.get("input"), dict) else None

    def remove_partial(self) -> None:
        """Forget an earlier run; the state goes last, because without it the rest is litter."""
        parts = (self.part, self.part_complete, self.part_meta, self.part_rows, self.part_skipped, self.state)
        for path in parts:
            path.unlink(missing_ok=True)

    def publish(self, state: State) -> None:
        """Do the renames that are left, the output last, and remove what only the run needed."""
        folder = self.output.parent
        for source, target in state.renames:
            if (folder / source).exists():
                (folder / source).replace(folder / target)
        fresh = {target for _, target in state.renames}
        for stale in (self.rows, self.skipped):  # of an output that was replaced
            if stale.name not in fresh:
                stale.unlink(missing_ok=True)
        self.remove_partial()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run away from the same output; the lock dies with its process."""
        if not locks.available():
            yield
            return
        path = _beside(self.output, ".part.lock")
        with path.open("w") as stream:
            try:
                locks.hold(stream.fileno(), wait=False)
                held = path.exists() and path.stat().st_ino == os.fstat(stream.fileno()).st_ino
            except BlockingIOError:
                held = False
            if not held:
                raise FileFormatError(f"{self.output} is being written by another run; wait for its end")
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


class OutputWriters:
    """The output's writer and, when texts may be skipped, the files that say which ones were."""

    def __init__(self, files: OutputFiles, shape: Shape, state: State, *, skips: bool) -> None:
        at = state.positions
        writer = WRITERS[files.output.suffix.lower()]
        self._files = files
        self._main: VectorWriter = writer(files.part, at.get(files.part.name, 0), shape)
        self._skipped: AppendFile | None = None
        self._rows: NpyWriter | None = None
        if skips:
            self._skipped = AppendFile(files.part_skipped, at.get(files.part_skipped.name, 0))
        if skips and writer is NpyWriter:  # the other formats carry the row in each record
            self._rows = NpyWriter(files.part_rows, at.get(files.part_rows.name, 0), _ROWS_SHAPE)

    def append(self, records: Sequence[Record], vectors: NDArray[Any], skipped: Sequence[Record]) -> None:
        """Add the rows of a block (n records, vectors (n, D)) and the records that were left out."""
        self._main.append(records, vectors)
        if self._rows is not None:
            self._rows.append_array(np.array([record.row for record in records], np.int64))
        if self._skipped is not None:
            for record in skipped:
                line = {"row": record.row, "line": record.line, "reason": record.problem}
                self._skipped.write((json.dumps(line, ensure_ascii=False) + "\n").encode())

    def sync(self) -> dict[str, int]:
        """Everything on the disk; the sizes to cut back to."""
        positions = {self._files.part.name: self._main.sync()}
        if self._rows is not None:
            positions[self._files.part_rows.name] = self._rows.sync()
        if self._skipped is not None:
            positions[self._files.part_skipped.name] = self._skipped.sync()
        return positions

    def finish(self, meta: dict[str, Any], *, keep_skipped: bool) -> tuple[tuple[str, str], ...]:
        """Complete all files; the renames that publish them, the output's last."""
        files = self._files
        complete = self._main.finish()
        save_json(files.part_meta, meta)
        renames = [(files.part_meta, files.meta)]
        if self._rows is not None:
            renames.append((self._rows.finish(), files.rows))
        if keep_skipped:
            renames.append((files.part_skipped, files.skipped))
        renames.append((complete, files.output))
        return tuple((source.name, target.name) for source, target in renames)

    def close(self) -> None:
        """Close what is open."""
        for writer in (self._main, self._rows, self._skipped):
            if writer is not None:
                writer.close()


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)
