"""The stream of texts that `embed` gives to the engine, and the records they came from."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator

from embedrt.commands.kept import json_object
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.errors import FileFormatError


class Feed:
    """Texts of a source from some row on; remembers each record until its vector is there.

    Records without a text never reach the engine: they end the run, or wait to be taken by `take`.
    """

    def __init__(self, source: TextSource, skip_problems: bool) -> None:
        self._source = source
        self._skip_problems = skip_problems
        self._pending: deque[Record] = deque()
        self._digest = hashlib.sha256()

    @property
    def prefix_sha256(self) -> str:
        """Hash over the texts taken so far."""
        return self._digest.hexdigest()

    def texts(self, start_row: int, prefix_sha256: str) -> Iterator[str]:
        """Texts from `start_row` on; those before it must hash to `prefix_sha256`.

        Raises:
            FileFormatError: the input before `start_row` is not what it was; or a record has no text.
        """
        records = self._source.records()
        if start_row:
            self._pass_over(records, start_row, prefix_sha256)
        for record in records:
            self._pending.append(record)
            if record.text is not None:
                yield record.text
            elif not self._skip_problems:
                raise self._source.error(record.line, record.problem or "no text")

    def take(self, num_texts: int) -> list[Record]:
        """The next records that hold `num_texts` texts, those without a text in between included."""
        taken: list[Record] = []
        while num_texts:
            record = self._pending.popleft()
            self._update(record)
            taken.append(record)
            num_texts -= record.text is not None
        return taken

    def take_rest(self) -> list[Record]:
        """Records without a text at the end of the input."""
        rest = list(self._pending)
        self._pending.clear()
        for record in rest:
            self._update(record)
        return rest

    def peek_text(self, index: int) -> Record | None:
        """The record of the text at `index` among those given out and not yet taken."""
        held = [record for record in self._pending if record.text is not None]
        return held[index] if 0 <= index < len(held) else None

    def _pass_over(self, records: Iterable[Record], start_row: int, prefix_sha256: str) -> None:
        for record in records:
            self._update(record)
            if record.row + 1 == start_row:
                break
        if self.prefix_sha256 != prefix_sha256:
            raise FileFormatError(
                f"--resume refused: the first {start_row:,} records of {self._source.name} are not those "
                "of the earlier run; start over with --force"
            )

    def _update(self, record: Record) -> None:
        text = "\x01" if record.text is None else record.text
        if record.kept:
            text += "\x00" + json.dumps(json_object(record.kept), ensure_ascii=False)
        self._digest.update(text.encode("utf-8", "surrogatepass") + b"\x00")
