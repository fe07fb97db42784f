"""Pictures as an input of the commands: the files of a folder, or paths in a file of texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedrt.commands.reading.formats import RULES
from embedrt.commands.reading.records import Record
from embedrt.commands.source import Fingerprint, TextSource
from embedrt.errors import FileFormatError, OptionError
from embedrt.pictures.reading import SUFFIXES

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.model import Model


@dataclass(frozen=True)
class PictureSource(TextSource):
    """Records are pictures, and their texts the pictures' paths, which the embedder opens.

    Of a folder: all files in it and below it that have a picture's suffix, in the order of their paths. Of a picture:
    itself. Of a file of texts: each text, from the file's folder on.
    """

    @property
    def holds_them(self) -> bool:
        """Whether this is a folder or a picture, and no file that names pictures."""
        return self.format == "pictures"

    @property
    def noun(self) -> str:
        """What one of the things is called that are embedded."""
        return "picture"

    @property
    def is_pipe(self) -> bool:
        """Whether the bytes can be read only once."""
        return not self.holds_them and super().is_pipe

    def records(self) -> Iterator[Record]:
        """All pictures; those that are not there, and what has no such suffix, have a problem instead of a text."""
        if self.holds_them:
            for row, path in enumerate(self._files()):
                yield Record(row, row + 1, str(path))
            return
        folder = Path() if self.path is None else self.path.parent
        for record in super().records():
            yield record if record.text is None else _checked(record, folder / record.text)

    @property
    def unit(self) -> str:
        """What `Record.line` counts."""
        return "picture" if self.holds_them else super().unit

    @property
    def reading(self) -> dict[str, str | int | None]:
        """What decides which pictures there are."""
        return {"format": "pictures", "rules": RULES} if self.holds_them else {**super().reading, "pictures": "paths"}

    def fingerprint(self) -> Fingerprint | None:
        """Hash over names, sizes and times of change of all pictures, or None for a pipe: none is read."""
        if self.is_pipe:
            return None
        digest, size = hashlib.sha256(), 0
        for record in self.records():
            digest.update(json.dumps([record.text, record.problem and 1]).encode() + b"\0")
            if record.text is not None:
                digest.update(self.content_of(record.text).encode("utf-8", "surrogatepass") + b"\0")
                size += Path(record.text).stat().st_size
        return Fingerprint(digest.hexdigest(), size)

    def content_of(self, text: str) -> str:
        """The path with size and time of change: a picture that was replaced is another one."""
        found = Path(text).stat()
        return f"{text}\0{found.st_size}\0{found.st_mtime_ns}"

    def count(self) -> int | None:
        """Number of pictures, or None for a pipe."""
        return sum(1 for _ in self._files()) if self.holds_them else super().count()

    def check_fits(self, embedder: Embedder | Model) -> None:
        """Refuse a model of texts.

        Raises:
            OptionError: it would embed the paths' letters.
        """
        if self.holds_them and next(self._files(), None) is None:
            raise FileFormatError(
                f"{self.name} is a folder, and holds no pictures ({', '.join(SUFFIXES)}); texts are given as one file"
            )
        if not embedder.takes_pictures:
            raise OptionError(
                f"{self.name} holds pictures, and {embedder.bundle.manifest.name} embeds texts only; pictures need a "
                "bundle of CLIP or its kin"
            )

    def _files(self) -> Iterator[Path]:
        assert self.path is not None
        if not self.path.is_dir():
            yield self.path
        for folder, folders, names in os.walk(self.path):
            folders.sort()
            for name in sorted(names):
                if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                    yield Path(folder) / name


def is_picture_file(path: Path) -> bool:
    """Whether it is there and has the suffix of a picture."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def _checked(record: Record, path: Path) -> Record:
    if not path.name.lower().endswith(SUFFIXES):
        return replace(record, text=None, problem=f"{path} has no suffix of a picture ({', '.join(SUFFIXES)})")
    if not path.is_file():
        return replace(record, text=None, problem=f"{path} is no file")
    return replace(record, text=str(path))
