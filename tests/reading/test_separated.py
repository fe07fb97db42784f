from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt.commands.reading.separated import delimiter_of, last_opened
from embedrt.errors import FileFormatError, OptionError
from tests.reading.reading import DATA, problems, records, texts

# Everything but what UTF-8 cannot hold; line ends, quotes, delimiters and separators of other worlds come often.
ANY = st.text(
    st.one_of(
        st.sampled_from('",;\t\r\n\x0b\x0c\x1c\x85\u2028\u2029\ufeff\x00 한a'), st.characters(exclude_categories=["Cs"])
    )
)


@given(st.lists(st.tuples(ANY, ANY)), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(deadline=None)
def test_what_the_csv_module_writes_is_read_row_for_row(rows, delimiter, end, quote_all):
    out = io.StringIO()
    # Told to end lines in LF, the module leaves a CR bare: no reader can tell it from a line's end.
    quoting = csv.QUOTE_ALL if quote_all or end == "\n" else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([("id", "text"), *rows])
    found = records(out.getvalue().encode(), "csv", delimiter=delimiter, keep="all")
    assert [(record.kept["id"], record.text) for record in found] == rows
    assert [record.row for record in found] == list(range(len(rows)))


@given(st.lists(ANY))
@settings(deadline=None)
def test_one_column_too(rows):
    out = io.StringIO()
    csv.writer(out).writerows([("text",), *((text,) for text in rows)])
    assert texts(out.getvalue().encode(), "csv") == rows


@given(st.lists(st.tuples(*[ANY.map(lambda text: "".join(c for c in text if c not in "\t\r\n"))] * 2)))
@settings(deadline=None)
def test_tsv_is_cut_at_tabs_and_nowhere_else(rows):
    data = "".join(f"{a}\t{b}\n" for a, b in [("text", "id"), *rows]).encode()
    assert [(r.text, r.kept["id"]) for r in records(data, "tsv", keep=("id",))] == rows


def test_quotes_in_tsv_are_characters_unless_asked():
    data = b'text\tid\n"Quoted" start\t1\n"a ""b"""\t2\n'
    assert texts(data, "tsv") == ['"Quoted" start', '"a ""b"""']
    assert texts(b'text\tid\n"a\tb"\t1\n"c ""d"""\t2\n', "tsv", quoting="double") == ["a\tb", 'c "d"']
    assert "--quoting double" in problems(b'text\tid\n"a\nb"\t1\n', "tsv")[2]
    assert texts(b'text,id\n"a,1\n', "csv", quoting="none") == ['"a']


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b'id,text\n1,a\n2,"never closed\n3,b\n4,c\n', 3, "never closed"),
        (b'id,text\n1,"two\nlines"\n2,x\n3,"open\n', 5, "never closed"),
        (b'text,id\n"a\nb","open\n', 3, "never closed"),
        (b'id,text\n1,"a "b" c"\n', 2, "is followed by more"),
        (b'id,text\n1,"stray\n2,b\n3,"c"\n', 2, "closing quote on line 4"),
        (b"id,text\r1,a\r2,b\r", 1, "carriage return"),
        (b"id,text\n1,a\rb\n", 2, "carriage return"),
    ],
)
def test_a_file_that_breaks_the_rules_of_quotes_is_refused_at_the_line_where_it_does(data, line, said):
    with pytest.raises(FileFormatError, match=f"in, line {line}: .*{said}"):
        records(data, "csv")


def test_a_field_that_never_ends_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr("embedrt.commands.reading.separated._LONGEST_FIELD", 100)
    with pytest.raises(FileFormatError, match=r"line 2: .*never closed"):
        records(b'text\n"open\n' + b"x\n" * 1000, "csv")


@pytest.mark.parametrize(
    ("data", "bad"),
    [
        (b"id,text\n1,a\n2,b, c\n3,d\n", {3: "3 fields, the header has 2"}),
        (b"text,id\na, b,1\n", {2: "3 fields"}),
        (b"id,text\n1\n2,b\n", {2: "1 field, the header has 2"}),
        (b"id,text\n1,a,\n", {2: "3 fields"}),
        (b"text\na\n\nb\n\n\n", {3: 'an empty text is written ""'}),
        (b"id,text\n1,a\n\n2,b\n", {}),
        (b'text\n""\na\n', {}),
    ],
)
def test_a_row_with_fields_too_many_or_too_few_is_a_bad_record_and_the_others_stay(data, bad):
    found = problems(data, "csv")
    assert found.keys() == bad.keys()
    assert all(bad[line] in problem for line, problem in found.items())
    rows = [record.row for record in records(data, "csv")]
    assert rows == list(range(len(rows)))


def test_an_unknown_delimiter_is_asked_for_and_never_guessed():
    data = b"id;text\n1;hello\n2;a, b\n"
    with pytest.raises(FileFormatError, match="--delimiter semicolon"):
        records(data, "csv")
    assert texts(data, "csv", delimiter=";") == ["hello", "a, b"]
    with pytest.raises(FileFormatError, match="--delimiter tab"):
        records(b"id\ttext\n1\ta\n", "csv")
    assert texts(b"a;b\nx;y\n", "csv", delimiter=",") == ["x;y"], "one column, because it was said"
    assert texts("sep=;\r\nid;text\r\n1;안녕, 반가워\r\n".encode(), "csv") == ["안녕, 반가워"]
    assert delimiter_of("tab") == delimiter_of("\\t") == delimiter_of("\t") == "\t"
    for wrong in ("", ",,", '"', "\n"):
        with pytest.raises(OptionError, match="--delimiter"):
            delimiter_of(wrong)


def test_columns_that_are_there_twice():
    data = b"text,text,id\na,b,1\n"
    with pytest.raises(FileFormatError, match="2 columns 'text'"):
        records(data, "csv")
    assert texts(data, "csv", column="id") == ["1"]
    with pytest.raises(FileFormatError, match="2 columns 'text'"):
        records(data, "csv", column="id", keep=("text",))
    with pytest.raises(FileFormatError, match="no column 'url' for --keep; its columns: text, text, id"):
        records(data, "csv", column="id", keep=("url",))


def test_bytes_that_are_no_text():
    with pytest.raises(FileFormatError, match=r"header is not valid UTF-8 .* --encoding cp949"):
        records("번호,문장\n1,안녕\n".encode("cp949"), "csv", column="문장")
    korean = "번호,문장\n1,안녕\n".encode("cp949")
    assert texts(korean, "csv", column="문장", encoding="cp949") == ["안녕"]
    data = b"id,text\n1,a\n2," + "물".encode("cp949") + b"\n3,b\n"
    assert "byte 0xb9 in 'text'" in problems(data, "csv")[3]
    assert "--encoding cp949" in problems(data, "csv")[3]
    assert texts(data, "csv") == ["a", None, "b"]
    assert texts(data, "csv", column="id") == ["1", "2", "3"], "another column's bytes do no harm"
    assert "is --encoding right?" in problems(b"id,text\n1,\xff\n", "csv", encoding="cp949")[2]


def test_an_empty_file_has_no_header():
    with pytest.raises(FileFormatError, match="a header line"):
        records(b"", "csv")


def test_where_the_last_quoted_field_begins():
    assert last_opened(['a,"b\n', '""c",d\n', 'e,"f'], ",") == 2
    assert last_opened(['a,b"c\n'], ",") is None


@pytest.mark.parametrize(
    ("path", "count"),
    [("KorNLI/xnli.dev.ko.tsv", 2490), ("KorNLI/xnli.test.ko.tsv", 5010), ("KorSTS/sts-train.tsv", 5749),
     ("KorSTS/sts-dev.tsv", 1500), ("KorSTS/sts-test.tsv", 1379)],
)  # fmt: skip
def test_published_data_sets_keep_every_row(path, count):
    file = DATA / "korsts_kornli" / path
    if not file.is_file():
        pytest.skip(f"{file.name} of the published data is not there")
    with file.open(encoding="utf-8", newline="") as stream:
        wanted = [row["sentence1"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(wanted) == count
    assert texts(file.read_bytes(), "tsv", column="sentence1") == wanted
