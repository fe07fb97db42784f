"""Files to tasks of `embedrt eval`: pairs with scores, BEIR's and SQuAD's retrieval, translations, labelled texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.commands.kept import json_object
from embedrt.commands.reading.formats import format_of, is_known
from embedrt.commands.reading.records import How, Record, no_column
from embedrt.commands.reading.separated import read_fields
from embedrt.commands.source import TextSource, open_source
from embedrt.errors import FileFormatError, OptionError
from embedrt.evaluation.tasks import Bitext, Clusters, Retrieval, Similarity

PAIR_COLUMNS = ("sentence1", "sentence2", "score")
_ID_COLUMNS = ("_id", "id")
_SEPARATED = {"csv": (",", "double"), "tsv": ("\t", "none")}  # delimiter and quoting, where nothing else is said
_QRELS_COLUMNS = (("query-id", "corpus-id", "score"), ("query_id", "corpus_id", "score"))


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    encoding: str | None = None
    delimiter: str | None = None
    quoting: str | None = None

    def open(self, path: Path, column: str | None, keep: Any = ()) -> TextSource:
        """The source at `path`; one whose suffix says nothing has plain lines."""
        how = How(column, self.encoding, keep=keep, keep_option="a column")
        plain = not is_known(path) or format_of(path) == "txt"
        if plain and (column is not None or keep):
            raise FileFormatError(f"{path} has no columns: give .csv, .tsv, .jsonl, .json or .parquet")
        source = open_source(path, "txt" if plain else None, how=how)
        if source.format in _SEPARATED:  # the other files of a call have neither
            source = replace(source, how=replace(how, delimiter=self.delimiter, quoting=self.quoting))
        return source


def read_pairs(path: Path, columns: Sequence[str], reading: Reading) -> Similarity:
    """Pairs of texts with a score; the columns by their names, or by their numbers where the first line is data.

    Raises:
        FileFormatError: the file cannot be read, a column is not there, or a score is no number.
    """
    first, second, gold = [], [], []
    for line, (a, b, score) in _rows(path, columns, reading):
        first.append(a)
        second.append(b)
        gold.append(_number(score, f"{path}, line {line}: the score"))
    _some(path, gold, "pairs")
    return Similarity(path.name, first, second, np.array(gold))


def read_clusters(path: Path, columns: Sequence[str], reading: Reading) -> Clusters:
    """Texts and their labels; columns as `read_pairs` takes them.

    Raises:
        FileFormatError: the file cannot be read, a column is not there, or there is only one label.
    """
    rows = [values for _, values in _rows(path, columns, reading)]
    _some(path, rows, "texts")
    texts, labels = (list(column) for column in zip(*rows, strict=True))
    if len(set(labels)) < 2:
        raise FileFormatError(f"{path} has one label, {labels[0]!r}; clusters take two at least")
    return Clusters(path.name, texts, labels)


def read_bitext(first: Path, second: Path, reading: Reading) -> Bitext:
    """Two files of the same number of texts, line by line.

    Raises:
        FileFormatError: one cannot be read, or they differ in number.
    """
    a, b = (list(reading.open(path, None).texts()) for path in (first, second))
    if len(a) != len(b):
        raise FileFormatError(f"{first} has {len(a):,} texts and {second} {len(b):,}: each must have its translation")
    _some(first, a, "texts")
    return Bitext(f"{first.name}, {second.name}", a, b)


def read_beir(queries: Path, corpus: Path, qrels: Path, reading: Reading) -> Retrieval:
    """Queries and a corpus with ids, and judgments of pairs of them, as BEIR has them.

    Ids are in the column `_id`, else `id`. A text of the corpus with a title has it in front. Judgments are columns
    query-id, corpus-id and score, or TREC's lines "query 0 document relevance". Queries without a relevant text do not
    count.

    Raises:
        FileFormatError: a file cannot be read, has no ids or one twice, or a judgment is about an id that is not there.
    """
    asked, texts = _with_ids(queries, reading), _with_ids(corpus, reading)
    places = {key: row for row, key in enumerate(texts)}
    relevance: dict[str, dict[int, float]] = {}
    for line, (query, document, score) in _judgments(qrels, reading):
        for key, known, path in ((query, asked, queries), (document, places, corpus)):
            if key not in known:
                raise FileFormatError(f"{qrels}, line {line}: there is no {key!r} in {path}")
        gain = _number(score, f"{qrels}, line {line}: the relevance")
        if gain > 0:
            relevance.setdefault(query, {})[places[document]] = gain
    _some(qrels, relevance, "relevant texts")
    chosen = [key for key in asked if key in relevance]
    return Retrieval(
        qrels.name, [asked[key] for key in chosen], list(texts.values()), [relevance[key] for key in chosen]
    )


def read_squad(path: Path) -> Retrieval:
    """SQuAD's JSON (XQuAD, KorQuAD 1.0): questions are queries, paragraphs the corpus, each question's own is relevant.

    Raises:
        FileFormatError: it is no such file.
    """
    queries: list[str] = []
    relevance: list[dict[int, float]] = []
    corpus: dict[str, int] = {}
    try:
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                row = corpus.setdefault(str(paragraph["context"]), len(corpus))
                for qa in paragraph["qas"]:
                    queries.append(str(qa["question"]))
                    relevance.append({row: 1.0})
    except OSError as exc:
        raise FileFormatError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise FileFormatError(f"{path} is not JSON as SQuAD has it (data, paragraphs, context, qas, question)") from exc
    _some(path, queries, "questions")
    return Retrieval(path.name, queries, list(corpus), relevance)


def _some(path: Path, found: Any, what: str) -> None:
    if not len(found):
        raise FileFormatError(f"{path} holds no {what}")


def _rows(path: Path, columns: Sequence[str], reading: Reading) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and values of some columns, all of them as text; FileFormatError at the first record that has none."""
    if all(column.isdigit() for column in columns):
        yield from _numbered(path, [int(column) for column in columns], reading)
        return
    source = reading.open(path, columns[0], tuple(columns[1:]))
    for record in source.records():
        text, kept = source.text_of(record), json_object(record.kept)
        yield record.line, (text, *(_text(source, record, kept, name) for name in columns[1:]))


def _text(source: TextSource, record: Record, kept: Mapping[str, Any], name: str) -> str:
    value = kept.get(name)
    if value is None:
        raise source.error(record.line, f"no {name!r}")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _numbered(path: Path, numbers: Sequence[int], reading: Reading) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The same of columns by number, from 1, where no line says their names."""
    source = reading.open(path, None)
    if source.format not in _SEPARATED:
        raise OptionError(f"columns by number are those of .csv and .tsv, not of {path}")
    with source.opened() as stream:
        records = list(read_fields(stream, source.name, source.how, *_SEPARATED[source.format]))
    for line, fields in records:
        if min(numbers) < 1 or max(numbers) > len(fields):
            raise source.error(line, f"{len(fields)} columns, and {', '.join(map(str, numbers))} are asked for")
        yield line, tuple(fields[number - 1] for number in numbers)


def _with_ids(path: Path, reading: Reading) -> dict[str, str]:
    """Id -> text."""
    source = reading.open(path, None, "all")
    found: dict[str, str] = {}
    for record in source.records():
        text, kept = source.text_of(record), json_object(record.kept)
        name = next((name for name in _ID_COLUMNS if name in kept), None)
        if name is None:
            raise no_column(source.name, _ID_COLUMNS[0], list(kept))
        key = _text(source, record, kept, name)
        if key in found:
            raise source.error(record.line, f"the id {key!r} is there twice")
        title = kept.get("title")
        found[key] = f"{title} {text}" if isinstance(title, str) and title else text
    _some(path, found, "texts")
    return found


def _judgments(path: Path, reading: Reading) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line, query, document and relevance."""
    with path.open(encoding=reading.encoding or "utf-8", errors="replace") as stream:
        first = stream.readline().rstrip("\r\n")
    for names in _QRELS_COLUMNS:
        if names[0] in first:
            yield from _rows(path, names, reading)
            return
    for number, line in enumerate(path.read_text(encoding=reading.encoding or "utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 4:
            raise FileFormatError(
                f"{path}, line {number}: {len(fields)} fields; judgments have a header with "
                f"{', '.join(_QRELS_COLUMNS[0])}, or lines of query, 0, document, relevance"
            )
        yield number, (fields[0], fields[2], fields[3])


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileFormatError(f"{what} must be a number, not {text!r}")
    return value
