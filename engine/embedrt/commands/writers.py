"""Vectors into .npy, .jsonl and .parquet: appended as they come, in bounded memory, and continued after a kill.

A writer works on a partial file that can be cut back to any size that `sync` has returned. Its final file depends
only on the blocks appended, not on how often the writing was interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.columns import ARROW, AS_JSON, COLUMNS
from embedrt.commands.kept import array_of, fields_of, json_object, refuse_taken, refuse_unknown
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.reading.records import Record
from embedrt.errors import FileFormatError

NPY_HEADER_BYTES = 128
_ROW_GROUP = 8192  # rows; 32 MiB of float32 at 1024 dimensions


@dataclass(frozen=True)
class Shape:
    """What all rows of an output have in common."""

    dimension: int  # numbers per vector, as stored (bits are packed to bytes); 0: a flat array
    dtype: str  # numpy name
    with_text: bool
    metadata: dict[str, Any]  # kept inside the file where the format has a place for it
    outputs: tuple[str, ...] = ("dense",)  # of each text, in the order of their columns
    token_dimension: int = 0  # numbers per vector of a token

    @property
    def title(self) -> str:
        """What a row holds, in words."""
        words = {
            "dense": f"{self.dimension} {self.dtype}",
            "sparse": "sparse",
            "tokens": f"tokens of {self.token_dimension} {self.dtype}",
        }
        return " + ".join(words[name] for name in self.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the output's own."""
        return ("row", *(["text"] if self.with_text else []), *(COLUMNS[name] for name in self.outputs))


class VectorWriter(Protocol):
    """Writes rows into a partial file."""

    def append(self, records: Sequence[Record], vectors: Any) -> None:
        """Add rows: vectors (n, D), or `embedrt.model.Outputs`, made from the n records."""

    def sync(self) -> int:
        """Put everything on the disk; the partial file's size, from which writing can go on."""

    def finish(self) -> Path:
        """Complete the file and close it; the path of the complete file, to be renamed by the caller."""

    def close(self) -> None:
        """Close without completing."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the file's name: the system says only "No space left on device"."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or str(path)
        raise


class AppendFile:
    """A file that grows at its end, after being cut to a known size."""

    def __init__(self, path: Path, position: int) -> None:
        self.path = path
        self._stream: IO[bytes] = path.open("r+b" if position else "w+b")
        size = os.fstat(self._stream.fileno()).st_size
        if size < position:
            self._stream.close()
            raise FileFormatError(
                f"{path} has {size} bytes where the earlier run left {position}; start over with --force"
            )
        self._stream.truncate(position)
        self._stream.seek(position)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with naming(self.path):
            self._stream.write(data)

    def write_at(self, position: int, data: bytes) -> None:
        """Overwrite bytes, and go back to the end."""
        self._stream.seek(position)
        self._stream.write(data)
        self._stream.seek(0, os.SEEK_END)

    def sync(self) -> int:
        """Flush to the disk; the size in bytes."""
        with naming(self.path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
        return self._stream.tell()

    def close(self) -> None:
        """Close the file; what was not synced may be lost."""
        with suppress(OSError):  # a full disk was told by what came before
            self._stream.close()


class NpyWriter:
    """An array (N, D); the header has room for any N and is corrected at the end."""

    def __init__(self, path: Path, position: int, shape: Shape) -> None:
        self._file = AppendFile(path, position)
        self._dtype = np.dtype(shape.dtype)
        self._row_shape = (shape.dimension,) if shape.dimension else ()
        if position == 0:
            self._file.write(npy_header(self._dtype, (0, *self._row_shape)))

    def append(self, records: Sequence[Record], vectors: NDArray[Any]) -> None:
        """Add rows; the records are not kept."""
        del records
        self.append_array(vectors)

    def append_array(self, values: NDArray[Any]) -> None:
        """Add rows (n, D)."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())

    def sync(self) -> int:
        """See VectorWriter."""
        return self._file.sync()

    def finish(self) -> Path:
        """See VectorWriter."""
        row_bytes = self._dtype.itemsize * int(np.prod(self._row_shape, dtype=np.int64))
        rows = (self._file.sync() - NPY_HEADER_BYTES) // row_bytes
        self._file.write_at(0, npy_header(self._dtype, (rows, *self._row_shape)))
        self._file.sync()
        self._file.close()
        return self._file.path

    def close(self) -> None:
        """See VectorWriter."""
        self._file.close()


class JsonlWriter:
    """One object per line: row, text if asked for, embedding. float32 is written so that it reads back equal."""

    def __init__(self, path: Path, position: int, shape: Shape) -> None:
        self._file = AppendFile(path, position)
        self._shape = shape

    def append(self, records: Sequence[Record], vectors: Any) -> None:
        """See VectorWriter."""
        self._file.write(jsonl_lines(records, vectors, self._shape).encode("utf-8"))

    def sync(self) -> int:
        """See VectorWriter."""
        return self._file.sync()

    def finish(self) -> Path:
        """See VectorWriter."""
        self._file.sync()
        self._file.close()
        return self._file.path

    def close(self) -> None:
        """See VectorWriter."""
        self._file.close()


class ParquetWriter:
    """Columns row, text if asked for, those that go along, embedding.

    A parquet file cannot be continued without its footer, so rows are kept as an Arrow IPC stream, which can, and
    become row groups at the end.
    """

    def __init__(self, path: Path, position: int, shape: Shape) -> None:
        self._shape = shape
        self._file = AppendFile(path, position)
        self._schema: Any = None  # made of the first rows, which say what types the kept columns have
        if position:
            pa, _ = import_pyarrow()
            with path.open("rb") as spool:
                self._schema = pa.ipc.read_schema(spool)

    def append(self, records: Sequence[Record], vectors: Any) -> None:
        """See VectorWriter."""
        pa, _ = import_pyarrow()
        if not records:
            return
        self._begin(records)
        refuse_unknown(records, self._schema.names)
        own: dict[str, Callable[[Any], Any]] = {
            "row": lambda _: pa.array([record.row for record in records], pa.int64()),
            "text": lambda _: pa.array([record.text for record in records], pa.string()),
            **{COLUMNS[name]: partial(ARROW[name], vectors) for name in self._shape.outputs},
        }
        names = self._shape.names
        columns = [
            own[field.name](field.type) if field.name in names else array_of(field, records) for field in self._schema
        ]
        self._file.write(memoryview(pa.record_batch(columns, schema=self._schema).serialize()))

    def sync(self) -> int:
        """See VectorWriter."""
        return self._file.sync()

    def finish(self) -> Path:
        """See VectorWriter."""
        pa, pq = import_pyarrow()
        self._begin(())
        self._file.sync()
        self._file.close()
        complete = self._file.path.with_name(self._file.path.name + ".parquet")
        with naming(complete), self._file.path.open("rb") as spool, pq.ParquetWriter(complete, self._schema) as out:
            group: list[Any] = []
            for batch in pa.ipc.open_stream(spool):
                group.append(batch)
                if sum(len(part) for part in group) >= _ROW_GROUP:
                    out.write_table(pa.Table.from_batches(group))
                    group = []
            if group:
                out.write_table(pa.Table.from_batches(group))
        return complete

    def close(self) -> None:
        """See VectorWriter."""
        self._file.close()

    def _begin(self, records: Sequence[Record]) -> None:
        """Write the schema, if that has not been done."""
        if self._schema is not None:
            return
        pa, _ = import_pyarrow()
        refuse_taken(records, self._shape.names)
        shape = self._shape
        number = pa.from_numpy_dtype(np.dtype(shape.dtype))
        types = {
            "row": pa.int64(),
            "text": pa.string(),
            "embedding": pa.list_(number, shape.dimension),
            "sparse": pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(number))]),
            "tokens": pa.list_(pa.list_(number, shape.token_dimension)),
        }
        own = [pa.field(name, types[name], nullable=False) for name in shape.names]
        place = 1 + shape.with_text  # what goes along stands before the vectors
        fields = [*own[:place], *fields_of(records), *own[place:]]
        metadata = {"embedrt": json.dumps(shape.metadata, ensure_ascii=False, sort_keys=True)}
        self._schema = pa.schema(fields, metadata=metadata)
        self._file.write(memoryview(self._schema.serialize()))


WRITERS: dict[str, type[NpyWriter] | type[JsonlWriter] | type[ParquetWriter]] = {
    ".npy": NpyWriter,
    ".jsonl": JsonlWriter,
    ".parquet": ParquetWriter,
}


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Header of a .npy file, format 1.0, padded to NPY_HEADER_BYTES so that it can be rewritten in place.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    body = text.ljust(NPY_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("latin1")


def jsonl_lines(records: Sequence[Record], vectors: Any, shape: Shape) -> str:
    """The JSON lines of n records and their vectors: (n, D), or `embedrt.model.Outputs`."""
    refuse_taken(records, shape.names)
    lines = []
    for k, record in enumerate(records):
        text = f', "text": {json.dumps(record.text, ensure_ascii=False)}' if shape.with_text else ""
        kept = f", {json.dumps(json_object(record.kept), ensure_ascii=False)[1:-1]}" if record.kept else ""
        own = "".join([f', "{COLUMNS[name]}": {AS_JSON[name](vectors, k)}' for name in shape.outputs])
        lines.append(f'{{"row": {record.row}{text}{kept}{own}}}\n')
    return "".join(lines)
