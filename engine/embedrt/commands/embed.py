"""`embedrt embed`: texts of any number into a file, resumable after a kill.

Blocks of texts go through the engine in order. After a block its rows are on the disk before the state file says
so; a killed run is cut back to its last state. Blocks begin at the same rows however often a run was interrupted,
so the final file has the same bytes as an uninterrupted run's.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.feed import Feed
from embedrt.commands.outputs import OutputFiles, OutputWriters
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.state import State, differences, load_state, save_state
from embedrt.commands.writers import Shape, jsonl_lines
from embedrt.errors import FileFormatError, InputError, NonFiniteError
from embedrt.progress import Progress

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.model import Model
    from embedrt.results import EncodedBlock

BLOCK_TEXTS = 256  # few enough to show progress on large models, enough to sort by length within
_SAVE_SECONDS = 1.0  # a kill loses at most so much finished work
_NUM_EXAMPLES = 5


@dataclass(frozen=True)
class EmbedJob:
    """What to embed, how, and where to."""

    source: TextSource
    output: Path | None  # None: JSON lines to stdout
    request: EncodeRequest
    on_error: str = "raise"  # raise | skip
    with_text: bool = False
    block_size: int = BLOCK_TEXTS
    resume: bool = False
    force: bool = False

    def check_output(self) -> None:
        """Refuse, before a model is loaded, what `run` would refuse for certain.

        Raises:
            FileFormatError: the output is the input, or is there, or an unfinished one.
        """
        if self.output is not None:
            self.source.refuse_output(*OutputFiles(self.output).all())
        if self.output is not None and not self.resume:  # a finished output may be what --resume asks for
            OutputFiles(self.output).check_free(resume=False, force=self.force)


@dataclass(frozen=True)
class Summary:
    """What was done."""

    state: State
    shape: Shape
    identity: str
    limit: int  # tokens a text may have
    resumed_at: int  # rows that an earlier run had done
    files: tuple[Path, ...] = ()  # the output first
    was_complete: bool = False  # nothing was left to do
    unit: str = "line"  # what lines count: the input's lines, or rows
    noun: str = "text"  # what is embedded
    skipped: tuple[str, ...] = ()  # the first ones of this run, "line 7: reason"


@dataclass(frozen=True)
class Rows:
    """One block's outcome."""

    records: list[Record]  # embedded
    vectors: Any  # (len(records), D)
    skipped: list[Record]


def run(embedder: Embedder | Model, job: EmbedJob, progress: Progress) -> Summary:
    """Embed everything; see the module.

    Raises:
        FileFormatError: input, output or an earlier partial output cannot be used; the message says why.
        EmbedrtError: a text cannot be embedded, and `on_error` is "raise".
    """
    run_ = _Run(embedder, job)
    if job.output is None:
        try:
            return run_.to_stream(sys.stdout, progress)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise FileFormatError(f"stdout: {exc.strerror or exc}") from exc
    files = OutputFiles(job.output)
    try:
        with files.locked():
            return run_.to_file(files, progress)
    except OSError as exc:
        kept = "; finished rows are kept: once this is mended, go on with --resume" if files.state.exists() else ""
        raise FileFormatError(f"{exc.filename or files.part}: {exc.strerror or exc}{kept}") from exc


class _Run:
    """One run: the state moves from block to block."""

    def __init__(self, embedder: Embedder | Model, job: EmbedJob) -> None:
        job.source.check_fits(embedder)
        self._embedder = embedder
        self._job = job
        self._feed = Feed(job.source, job.on_error == "skip")
        self._identity, self._shape = shape_of(embedder, job.request)
        self._shape = replace(self._shape, with_text=job.with_text, metadata=self._metadata())
        self._state = State({}, self._feed.prefix_sha256)
        self._skipped: list[str] = []

    def to_stream(self, stream: IO[str], progress: Progress) -> Summary:
        """JSON lines, as they come."""
        with progress.step("embedding", self._job.source.count()) as advance:
            for rows in self._blocks():
                stream.write(jsonl_lines(rows.records, rows.vectors, self._shape))
                stream.flush()
                advance(len(rows.records) + len(rows.skipped))
        return self._summary()

    def to_file(self, files: OutputFiles, progress: Progress) -> Summary:
        """Partial files and states, then renames."""
        self._state = replace(self._state, key=self._key())
        made = files.made_with() if self._job.resume and not self._job.source.is_pipe else None
        if made is not None:
            changed = differences(made, self._state.key)
            if changed and not self._job.force:
                raise FileFormatError(
                    f"{files.output} exists and is complete, but {'; '.join(changed)}. Replace it with --force"
                )
            if not changed:
                return replace(self._summary(files.existing()), was_complete=True)
        self._state = self._begin(files)
        start = self._state.rows_done
        if not self._state.renames:
            self._write(files, progress)
        files.publish(self._state)
        return self._summary(files.existing(), start)

    def _begin(self, files: OutputFiles) -> State:
        """The state to start from; an error if something stands in the way."""
        job, fresh = self._job, self._state
        if job.resume and files.state.exists():
            earlier = load_state(files.state)
            changed = differences(earlier.key, fresh.key)
            if changed:
                raise FileFormatError(f"--resume refused: {'; '.join(changed)}. Start over with --force")
            return earlier
        files.check_free(resume=job.resume, force=job.force)
        files.remove_partial()
        return fresh

    def _write(self, files: OutputFiles, progress: Progress) -> None:
        start, total = self._state.rows_done, self._job.source.count()
        title = f"embedding from row {start:,}" if start else "embedding"
        writers = OutputWriters(files, self._shape, self._state, skips=self._job.on_error == "skip")
        try:
            with progress.step(title, None if total is None else total - start) as advance:
                self._write_blocks(files, writers, advance)
            renames = writers.finish(self._meta(), keep_skipped=self._state.rows_skipped > 0)
            self._state = replace(self._state, renames=renames)
            save_state(files.state, self._state)
        finally:
            writers.close()
            if not files.state.exists():  # nothing worth resuming
                files.remove_partial()

    def _write_blocks(self, files: OutputFiles, writers: OutputWriters, advance: Callable[[int], None]) -> None:
        def save() -> None:
            self._state = replace(self._state, positions=writers.sync())
            save_state(files.state, self._state)

        next_save = 0.0
        for rows in self._blocks():
            writers.append(rows.records, rows.vectors, rows.skipped)
            if time.monotonic() >= next_save:
                save()
                next_save = time.monotonic() + _SAVE_SECONDS
            advance(len(rows.records) + len(rows.skipped))
        save()

    def _blocks(self) -> Iterator[Rows]:
        """Blocks from the state on; the state is behind each when it is yielded."""
        job = self._job
        keywords: dict[str, Any] = job.request.of_outputs() if job.request.outputs else job.request.keywords()
        blocks = self._embedder.encode_stream(
            self._feed.texts(self._state.rows_done, self._state.prefix_sha256),
            block_size=job.block_size,
            on_error=job.on_error,  # type: ignore[arg-type]  # it is checked there
            **keywords,
        )
        for block in self._with_lines(blocks):
            yield self._account(block, self._feed.take(block.num_texts))
        rest = self._feed.take_rest()
        if rest:
            yield self._account(None, rest)

    def _with_lines(self, blocks: Iterator[EncodedBlock]) -> Iterator[EncodedBlock]:
        """The blocks; an error about a text is told with the line it came from."""
        start = 0  # position in the engine's stream of the first text not yet taken
        while True:
            try:
                block = next(blocks, None)
            except (InputError, NonFiniteError) as exc:
                record = None if exc.index is None else self._feed.peek_text(exc.index - start)
                if record is None:
                    raise
                raise self._job.source.error(record.line, _reason(str(exc))) from exc
            if block is None:
                return
            start = block.start + block.num_texts
            yield block

    def _account(self, block: EncodedBlock | None, records: list[Record]) -> Rows:
        """Sort a block's records into embedded and skipped, and move the state behind them."""
        state = self._state
        texts = [record for record in records if record.text is not None]
        rows = Rows([], np.zeros((0, self._shape.dimension), self._shape.dtype), [])
        longest, num_cut = state.longest, 0
        if block is not None:
            embedded = [texts[index - block.start] for index in block.indices]
            left_out = [
                replace(texts[item.index - block.start], text=None, problem=_reason(item.reason))
                for item in block.skipped
            ]
            rows = Rows(embedded, block.embeddings, left_out)
            num_cut = len(block.truncated)
            cut = [(item.num_tokens, texts[item.index - block.start].line) for item in block.truncated]
            longest = max([longest, *cut], key=lambda pair: pair[0])
        rows.skipped.extend(record for record in records if record.text is None)
        rows.skipped.sort(key=lambda record: record.row)
        for record in rows.skipped[: _NUM_EXAMPLES - len(self._skipped)]:
            self._skipped.append(f"{self._job.source.unit} {record.line}: {record.problem}")
        self._state = replace(
            state,
            prefix_sha256=self._feed.prefix_sha256,
            rows_done=records[-1].row + 1,
            rows_written=state.rows_written + len(rows.records),
            rows_skipped=state.rows_skipped + len(rows.skipped),
            texts_cut=state.texts_cut + num_cut,
            longest=longest,
        )
        return rows

    def _key(self) -> dict[str, Any]:
        """What must be the same for two runs to give the same file."""
        job = self._job
        found = job.source.fingerprint()
        return {
            "input": {
                **job.source.reading,
                "keep": job.source.how.keep,
                "sha256": found.sha256 if found else None,
                "bytes": found.num_bytes if found else None,
            },
            "options": {
                **job.request.as_dict(),
                "variant": self._embedder.variant,
                "on_error": job.on_error,
                "with_text": job.with_text,
                "block_size": job.block_size,
            },
            "identity": self._identity,
        }

    def _metadata(self) -> dict[str, Any]:
        """What a reader of the vectors should know."""
        manifest = self._embedder.bundle.manifest
        return {
            "identity": self._identity,
            "model": manifest.source.model,
            "bundle": manifest.name,
            "variant": self._embedder.variant,
            "options": self._job.request.as_dict(),
        }

    def _meta(self) -> dict[str, Any]:
        """The content of OUT.meta.json."""
        return {
            **self._metadata(),
            "rows": self._state.rows_written,
            "dimension": self._shape.dimension,
            **({"outputs": list(self._shape.outputs)} if self._job.request.outputs else {}),
            "dtype": self._shape.dtype,
            "rows_skipped": self._state.rows_skipped,
            "texts_cut": self._state.texts_cut,
            "key": self._state.key,
        }

    def _summary(self, files: tuple[Path, ...] = (), resumed_at: int = 0) -> Summary:
        return Summary(
            state=self._state,
            shape=self._shape,
            identity=self._identity,
            limit=self._embedder.max_tokens,
            resumed_at=resumed_at,
            files=files,
            unit=self._job.source.unit,
            noun=self._job.source.noun,
            skipped=tuple(self._skipped),
        )


def shape_of(model: Embedder | Model, request: EncodeRequest) -> tuple[str, Shape]:
    """The identity of what a request gives, and its shape."""
    if request.outputs is None:
        embedder: Any = model
        keywords = request.keywords()
        empty = embedder.encode_detailed([], **keywords).embeddings  # (0, D), in the type asked for
        return embedder.identify(**keywords), Shape(int(empty.shape[1]), str(empty.dtype), False, {})
    several: Any = model
    manifest = several.bundle.manifest
    width = manifest.pipeline.dimension if "dense" in request.outputs else 0
    each = manifest.tokens.dimension if "tokens" in request.outputs else 0
    identity = several.identity_for(several.resolve(**request.of_outputs()))
    return identity, Shape(width, "float32", False, {}, request.outputs, each)


def _reason(message: str) -> str:
    """An engine's message without its "text 17: ": here lines are what counts."""
    return re.sub(r"^(text|picture) \d+: ", "", message)
