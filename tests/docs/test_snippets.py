"""What README and docs show works: every Python block runs, every command is spelled as the command line has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from PIL import Image

from embedrt.cli.app import app
from embedrt.pictures.generated import generated_pictures
from tests.conftest import Rerankers
from tests.docs.markdown import PAGES, ROOT, commands_of, python_of

FILES = ("corpus.txt", "texts.txt", "texts.jsonl", "queries.txt", "pairs.csv", "stsb-en-test.csv")
COMMANDS = [(page, arguments) for page in PAGES for arguments in commands_of(page)]


@pytest.fixture(scope="module")
def folder(
    make_bundle: Callable[..., Path],
    export_outputs: Callable[..., tuple[Path, Path]],
    clip_bundle: Path,
    rerankers: Rerankers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with the bundles and files that the pages speak of."""
    variants = ("fp32", "int8")
    plain = make_bundle("bert", variants=variants)
    instruct = make_bundle("bert", variants=variants, prompts={"query": "Instruct: {task}\nQuery: "})
    folder = tmp_path_factory.mktemp("reader")
    for name, bundle in (("minilm", plain), ("e5-small", plain), ("e5", instruct)):
        (folder / name).symlink_to(bundle)
    store = folder / "home" / "bundles"
    store.mkdir(parents=True)
    (store / "intfloat--multilingual-e5-small").symlink_to(plain)
    (folder / "clip").symlink_to(clip_bundle)
    for kind in ("splade", "colbert", "m3"):
        (folder / kind).symlink_to(export_outputs(kind)[1])
    (folder / "reranker").symlink_to(rerankers.bundle("bert"))
    (folder / "photos").mkdir()
    for i, pixels in enumerate(generated_pictures(3, seed=0)):
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    for name in FILES:
        (folder / name).write_text('{"text": "a"}\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.name)
def test_python_runs(page: Path, folder: Path) -> None:
    program = "texts = ['a', 'b']\n" + python_of(page)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "EMBEDRT_HOME": str(folder / "home"),
        "ANONYMIZED_TELEMETRY": "False",
    }
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    missing = re.search(r"No module named '(keybert|mteb)'", done.stderr)
    if missing:
        pytest.skip(f"{missing[1]} is not installed")
    if "Couldn't reach" in done.stderr:
        pytest.skip("it fetches a benchmark's data, and there is no network")
    assert done.returncode == 0, done.stderr


def shown(value: Path | list[str]) -> str:
    return value.name if isinstance(value, Path) else " ".join(value)[:60]


@pytest.mark.parametrize(("page", "arguments"), COMMANDS, ids=shown)
def test_commands_are_spelled_right(
    page: Path, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del page
    monkeypatch.chdir(folder)
    context = click.Context(app)
    name, command, rest = app.resolve_command(context, arguments)
    assert command is not None
    with command.make_context(name, rest, parent=context):
        pass


def test_pages_were_found() -> None:
    assert ROOT / "README.md" in PAGES
    assert len(COMMANDS) >= 20
