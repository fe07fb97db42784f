"""docs/search.md does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "search.md"
MODEL = "intfloat/multilingual-e5-small"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "notes.csv").write_text(blocks("csv")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_commands(cli, lookup_bundle, here):
    lines = "".join(blocks("bash")).splitlines()
    outputs = []
    for line in lines:
        program, *args = shlex.split(line)
        assert program == "embedrt"
        outputs.append(cli.ok(*(str(lookup_bundle) if arg == MODEL else arg for arg in args)))
    assert len(outputs) == 4
    assert "6 added" in outputs[0].stderr
    assert "nothing changed, 0 texts embedded" in outputs[3].stderr
    titles, shown = (text.splitlines()[0].split() for text in (outputs[1].stdout, blocks("text")[0]))
    assert titles == shown


def test_python(lookup_bundle, here, capsys):
    (code,) = blocks("python")
    exec(code.replace(MODEL, str(lookup_bundle)), {})
    assert capsys.readouterr().out == "배송 기간 [('n2', 'Delivery takes two to three days.')]\n"


def test_tokens_are_those_of_the_table():
    import lancedb

    rows = re.findall(r"^\| `(ngram|icu|simple)` \|.*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 3
    for tokenizer, shown in rows:
        sizes = {"ngram_min_length": 2, "ngram_max_length": 3} if tokenizer == "ngram" else {}
        found = lancedb.tokenize("서울의 날씨", base_tokenizer=tokenizer, stem=False, remove_stop_words=False, **sizes)
        texts = list(dict.fromkeys(token.text for token in found))
        if tokenizer == "ngram":
            first, last = shown.split(", …, ")
            assert texts[:3] == first.split(", ")
            assert last in texts
            assert "의 날" in texts
        else:
            assert texts == shown.split(", ")
