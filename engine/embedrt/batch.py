"""The unit of work of a cluster: a batch of Arrow in, the same batch with vectors out.

::

    embed = EmbedBatch("minilm", text="body", into="vector", precision="int8")
    embed(table)                                        a plain loop
    dataset.map_batches(embed, batch_format="pyarrow")  Ray Data
    frame.mapInArrow(embed.stream, schema)              Spark
    dataset.add_columns(lance.batch_udf(output_schema=embed.added)(embed.columns_only()))   Lance

What is pickled is a recipe. Each process opens the model once, at its first batch; all processes of a node map the
packed weights of one file. A process that finds another model than the one the recipe was made with refuses to work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from embedrt.arrow import PRECISIONS, Rows, VectorShape
from embedrt.commands.reading.parquet import Unreadable, column_at, import_pyarrow, text_path, texts_of
from embedrt.commands.reading.records import How, refuse_twins
from embedrt.errors import IdentityError, InputError, InputTypeError, OptionError
from embedrt.executors.choice import choose_variant
from embedrt.executors.devices import choose_device
from embedrt.loading import LoadOptions, find_bundle
from embedrt.manifest import pipeline_of
from embedrt.options import Kind, identity_of, identity_parts, parse_options, whole_number
from embedrt.pooling import load_head, parse_pooling
from embedrt.settings import change, own_settings
from embedrt.workers import opened_once, threads_given

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.results import EncodedBlock

BLOCK_TEXTS = 2048  # sorted by length together, and one block tokenized while another runs


class BatchKwargs(TypedDict, total=False):
    """Those options of `Embedder.encode` that say what a text's vector is."""

    prompt_name: str | None
    prompt: str | None
    task: str | None
    normalize_embeddings: bool
    on_overflow: Literal["truncate", "error", "windows"]
    batch_size: int | None


@dataclass(frozen=True)
class Columns:
    """Names of columns: where texts are, and what is added."""

    text: str
    vector: str
    tokens: str | None
    truncated: str | None
    error: str | None

    @property
    def added(self) -> tuple[str, ...]:
        """Those that are added, in their order."""
        return tuple(name for name in (self.vector, self.tokens, self.truncated, self.error) if name is not None)


class EmbedBatch:
    """Adds vectors to batches of Arrow. Picklable; holds no model itself, so that copies cost nothing.

    Args:
        bundle: path or name, as `Embedder` takes it. A path must be there on every node.
        text: the column with the texts; "a.b" is the field b of a column a of structs.
        into: the column that the vectors go to.
        precision: "float32", "float16" (float32, rounded), "int8", "uint8", "binary": fixed-size lists; "ubinary": the
            same bits as fixed-size binary of D / 8 bytes.
        tokens, truncated, error: names of more columns, if they are wanted: tokens of the text before cutting (int32),
            whether it was cut, and why it has no vector. Without `error` a text that cannot be embedded (null, no
            tokens, no text at all) raises; with it the text's vector is null.
        keep: other columns that go along: "all", or their names.
        variable_lists: lists whose type does not say their length. Spark needs them.
        kind: whose prompt to use: "encode", "query" or "document".
        variant, device, executor, isa, pooling, packed_cache, verify_hashes: as `Embedder` takes them, but packed
            weights are kept by default.
        max_tokens, truncate_dim, prompts, default_prompt_name: as `Embedder` takes them.
        num_threads: per process; default what the engine gave it, see `threads_given`.
        options: prompt_name, prompt, task, normalize_embeddings, on_overflow, batch_size; as `Embedder.encode` takes
            them.

    Raises:
        BundleError, OptionError: as `Embedder`; the bundle's manifest is read, its weights are not.
        DependencyError: pyarrow is missing.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        text: str = "text",
        into: str = "vector",
        *,
        precision: str = "float32",
        tokens: str | None = None,
        truncated: str | None = None,
        error: str | None = None,
        keep: str | Iterable[str] = "all",
        variable_lists: bool = False,
        kind: Kind = "encode",
        variant: str = "auto",
        device: str = "auto",
        executor: str = "auto",
        isa: str = "auto",
        num_threads: int | None = None,
        pooling: str | None = None,
        packed_cache: bool | str | os.PathLike[str] = True,
        verify_hashes: bool = True,
        max_tokens: int | None = None,
        truncate_dim: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        **options: Unpack[BatchKwargs],
    ) -> None:
        import_pyarrow()
        if precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.columns = Columns(text, into, tokens, truncated, error)
        _refuse_twins_of(self.columns)
        self.keep = "all" if keep == "all" else ((keep,) if isinstance(keep, str) else tuple(keep))
        self.precision = precision
        self._kind: Kind = kind
        self._given: dict[str, Any] = {**options, "precision": "float32" if precision == "float16" else precision}
        self._settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "truncate_dim": truncate_dim,
            "prompts": None if prompts is None else dict(prompts),
            "default_prompt_name": default_prompt_name,
        }
        asked = LoadOptions(variant, device, executor, isa, num_threads, pooling, packed_cache, verify_hashes)
        self._resolve(bundle, asked, variable_lists)

    def _resolve(self, bundle: str | os.PathLike[str], asked: LoadOptions, variable_lists: bool) -> None:
        """Pin the variant, and learn identity and dimension from the manifest."""
        opened = find_bundle(bundle)
        pipeline = pipeline_of(opened.manifest)
        manifest = opened.manifest
        self.bundle = str(opened.root.absolute()) if Path(bundle).exists() else os.fspath(bundle)
        variant = choose_variant(opened, asked.variant, choose_device(asked.device))
        self._asked = replace(asked, variant=variant)
        settings = change(own_settings(manifest), manifest, **self._settings)
        pooling = pipeline.pooling if asked.pooling is None else parse_pooling(asked.pooling)
        width = load_head(opened, replace(pipeline, pooling=pooling)).dimension
        options = parse_options(self._given, self._kind, settings.prompts, width, truncate_dim=settings.truncate_dim)
        self.identity = identity_of(identity_parts(manifest, variant, pooling, settings.max_tokens), options)
        self.shape = VectorShape(options.truncate_dim or width, self.precision, variable_lists)
        self.model, self.variant, self.max_tokens = manifest.source.model, variant, settings.max_tokens

    def __call__(self, batch: Any) -> Any:
        """The batch with vectors: a RecordBatch for one, a Table for a Table.

        Raises:
            InputTypeError: neither of them.
            FileFormatError: it has no such column, or one of the added names already.
            InputError: a text cannot be embedded, and there is no column for errors.
        """
        pa, _ = import_pyarrow()
        if isinstance(batch, pa.RecordBatch):
            return next(self.stream((batch,)))
        if not isinstance(batch, pa.Table):
            raise InputTypeError(
                f"give a pyarrow RecordBatch or Table, not {type(batch).__name__}; Ray Data gives them with "
                "map_batches(..., batch_format='pyarrow')"
            )
        made = list(self.stream(batch.to_batches()))
        return pa.Table.from_batches(made, schema=made[0].schema if made else self.schema(batch.schema))

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        """RecordBatches with vectors, in their order; a few are read ahead, so that no core waits for another.

        Raises:
            InputError: as a call; its `index` counts from the first row of the stream.
        """
        for batch, rows in self.rows(batches):
            yield self._joined(batch, rows)

    def rows(self, batches: Iterable[Any], block_texts: int = BLOCK_TEXTS) -> Iterator[tuple[Any, Rows]]:
        """As `stream`, with what is added still beside each batch; `block_texts` are held at once."""
        waiting: deque[Any] = deque()
        unreadable: dict[int, str] = {}
        done = Rows(self.shape)
        for block in self._blocks(batches, waiting, unreadable, block_texts):
            reasons = _reasons(block, unreadable)
            if reasons and self.columns.error is None:
                index = min(reasons)
                raise InputError(f"{reasons[index]}; error='...' names a column for such reasons", index=index)
            done.add(block, reasons)
            while waiting and waiting[0].num_rows <= done.num_rows:
                batch = waiting.popleft()
                yield batch, done.take(batch.num_rows)
        while waiting:  # those without rows at the end
            yield waiting.popleft(), done.take(0)

    def schema(self, schema: Any) -> Any:
        """The schema of what a batch of this schema becomes."""
        pa, _ = import_pyarrow()
        kept = [field for field in schema if self._keeps(field.name)]
        return pa.schema([*kept, *self.added], metadata=schema.metadata)

    @property
    def added(self) -> Any:
        """The schema of the columns that are added."""
        pa, _ = import_pyarrow()
        types = {self.columns.vector: self.shape.arrow_type, self.columns.tokens: pa.int32()}
        types |= {self.columns.truncated: pa.bool_(), self.columns.error: pa.string()}
        return pa.schema([pa.field(name, types[name]) for name in self.columns.added])

    @property
    def ddl(self) -> str:
        """The added columns as Spark spells them: "vector array<float>, tokens int".

        Raises:
            OptionError: Spark has no such type.
        """
        kinds = {"float32": "array<float>", "int8": "array<tinyint>", "binary": "array<tinyint>", "ubinary": "binary"}
        if self.precision not in kinds:
            raise OptionError(f"Spark has no {self.precision}; take one of {', '.join(kinds)}")
        own = {self.columns.vector: kinds[self.precision], self.columns.tokens: "int"}
        own |= {self.columns.truncated: "boolean", self.columns.error: "string"}
        return ", ".join(f"`{name}` {own[name]}" for name in self.columns.added)

    def columns_only(self) -> Self:
        """The same, giving the added columns alone; Lance's `add_columns` wants that."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), keep=())
        return other

    def with_threads(self, num_threads: int) -> Self:
        """The same on so many threads per process."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), _asked=replace(self._asked, num_threads=num_threads))
        return other

    @property
    def embedder(self) -> Embedder:
        """This process's embedder for the recipe, opened at first use.

        Raises:
            IdentityError: what this node has under the bundle's name is another model.
        """
        asked = asdict(self._asked)
        asked["num_threads"] = whole_number("num_threads", asked["num_threads"]) or threads_given()
        found = opened_once(self.bundle, **asked, **self._settings)
        identity = found.identify(kind=self._kind, **self._given)
        if identity != self.identity:
            raise IdentityError(
                f"{self.bundle} on this machine gives vectors of identity {identity}, and the work was handed out with "
                f"{self.identity}: the same bundle must be on every node"
            )
        return found

    def _blocks(
        self, batches: Iterable[Any], waiting: deque[Any], unreadable: dict[int, str], block_texts: int
    ) -> Iterator[EncodedBlock]:
        pa, _ = import_pyarrow()
        position = 0

        def texts() -> Iterator[str]:
            nonlocal position
            for batch in batches:
                if not isinstance(batch, pa.RecordBatch):
                    raise InputTypeError(f"give pyarrow RecordBatches, not {type(batch).__name__}")
                waiting.append(batch)
                for value in self._texts(batch):
                    if isinstance(value, Unreadable) or value is None:
                        unreadable[position] = "null" if value is None else str(value)
                        value = None
                    position += 1
                    yield value

        yield from self.embedder.encode_stream(
            texts(),
            block_size=block_texts,
            on_error="skip",
            kind=self._kind,
            **self._given,
        )

    def _texts(self, batch: Any) -> list[Any]:
        path = text_path(How(self.columns.text), batch.schema, "the batch")
        refuse_twins("the batch with vectors", self.columns.added, self.schema(batch.schema).names)
        return texts_of(column_at(batch, path), "utf-8")

    def _keeps(self, name: str) -> bool:
        return self.keep == "all" or name in self.keep

    def _joined(self, batch: Any, rows: Rows) -> Any:
        pa, _ = import_pyarrow()
        kept = [column for name, column in zip(batch.schema.names, batch.columns, strict=True) if self._keeps(name)]
        made = {self.columns.vector: rows.arrow_vectors(), self.columns.tokens: rows.arrow_tokens()}
        made |= {self.columns.truncated: rows.arrow_truncated(), self.columns.error: rows.arrow_reasons()}
        columns = [*kept, *(made[name] for name in self.columns.added)]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema(batch.schema))


def _reasons(block: EncodedBlock, unreadable: dict[int, str]) -> dict[int, str]:
    """Why rows of a block have no vector, by position in the stream."""
    return {
        item.index: unreadable.pop(item.index, "") or item.reason.removeprefix(f"text {item.index}: ")
        for item in block.skipped
    }


def _refuse_twins_of(columns: Columns) -> None:
    names = columns.added
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two of the added columns are called {name!r}")
