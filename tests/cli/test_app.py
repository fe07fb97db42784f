from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from embedrt.cli import main
from embedrt.cli.app import app
from embedrt.embedder import Embedder
from embedrt.errors import EmbedrtError

OVER_FILES = ("cluster", "dedup", "map", "mine")  # commands that ask something of a whole file
COMMANDS = ("export", "verify", "info", "embed", "similarity", "search", "rerank", *OVER_FILES, "eval", "bench", "help")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_help_lists_every_command_and_has_examples(cli):
    shown = cli.ok("--help").stdout
    places = [shown.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert "Examples:" in shown
    assert not any(line.endswith("...") for line in shown.splitlines()[1:]), "no line of the list is cut"
    assert cli.ok("-h").stdout == shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_fit_80_columns(cli, name):
    shown = cli.ok(name, "--help").stdout
    examples = shown[shown.index("Examples:") :].splitlines()
    assert any(line.startswith(f"  embedrt {name} ") or f"| embedrt {name} " in line for line in examples)
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_version(cli):
    assert cli.ok("--version").stdout.startswith("embedrt ")


def test_importing_the_library_loads_neither_click_nor_rich():
    code = "import sys, embedrt, embedrt.embedder, embedrt.progress; print({'click', 'rich'} & set(sys.modules))"
    assert run_python(code) == "set()\n"


def test_help_loads_nothing_that_is_optional():
    code = (
        "import sys; from embedrt.cli import main; main(['search', '--help']); "
        "print({'rich', 'pyarrow', 'matplotlib', 'torch', 'embedrt_export'} & set(sys.modules))"
    )
    assert run_python(code).endswith("set()\n")


def test_main_returns_exit_codes(capsys, tmp_path):
    assert main(["--version"]) == 0
    assert main(["info", str(tmp_path)]) == 1
    assert main(["info"]) == 2
    assert main(["nonsense"]) == 2
    capsys.readouterr()


def test_an_error_is_one_line_and_debug_shows_the_traceback(cli, tmp_path):
    error = cli.fails("info", tmp_path)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" in cli("info", tmp_path, "--debug").stderr
    assert "Traceback" in cli("--debug", "info", tmp_path).stderr
    assert "Traceback" in cli("info", tmp_path, env={"EMBEDRT_DEBUG": "1"}).stderr
    assert "Traceback" not in cli("info", tmp_path, env={"EMBEDRT_DEBUG": "0"}).stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (EmbedrtError("two\nlines"), 1, "error: two lines"),
        (OSError(28, "No space left on device", "/x/y"), 1, "error: /x/y: No space left on device"),
        (MemoryError(), 1, "error: out of memory"),
        (ZeroDivisionError("by zero"), 1, "error: unexpected ZeroDivisionError: by zero (a bug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_becomes_of_an_exception(cli, lookup_bundle, monkeypatch, raised, code, said):
    def fail(*_args: object, **_kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(Embedder, "__init__", fail)
    result = cli("similarity", lookup_bundle, "a")
    assert result.exit_code == code
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_defaults_come_from_the_environment(cli, lookup_bundle):
    def running(env: dict[str, str], *options: str) -> dict[str, object]:
        result = cli("info", lookup_bundle, "--json", *options, env=env)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["running"]

    env = {"EMBEDRT_THREADS": "1", "EMBEDRT_VARIANT": "fp32", "EMBEDRT_DEVICE": "cpu"}
    assert running(env)["threads"] == 1
    assert running(env)["variant"] == "fp32"
    assert running(env, "--variant", "int8")["variant"] == "int8"
    assert cli("info", lookup_bundle, env={"EMBEDRT_THREADS": "many"}).exit_code == 2


def test_python_m(lookup_bundle):
    done = subprocess.run(
        [sys.executable, "-m", "embedrt", "info", str(lookup_bundle / "none")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_a_closed_pipe_is_quiet(lookup_bundle, tmp_path):
    (tmp_path / "in.txt").write_text("water\n" * 20_000)
    command = [sys.executable, "-m", "embedrt", "embed", str(lookup_bundle), str(tmp_path / "in.txt"), "-o", "-", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline().startswith(b'{"row": 0')
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1


def test_ctrl_c_keeps_what_is_done(lookup_bundle, tmp_path):
    """Interrupted while it waits for more of its input."""
    out, state = tmp_path / "out.npy", tmp_path / "out.npy.part.json"
    command = [sys.executable, "-m", "embedrt", "embed", str(lookup_bundle), "-", "-o", str(out), "--block-size", "8"]
    # a parent in the background ignores SIGINT, and children inherit that
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed) as child:
        child.stdin.write(b"water\n" * 40)
        child.stdin.flush()
        deadline = time.monotonic() + 60
        while not state.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        said = child.stderr.read().decode()
    assert child.returncode == 130
    assert "go on with --resume" in said
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    assert json.loads(state.read_text())["rows_done"] > 0


def test_tests_leave_nothing_in_the_working_directory():
    assert not list(Path.cwd().glob("*.part*"))


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_standard_output_is_utf8_whatever_the_locale(lookup_bundle, tmp_path, locale):
    (tmp_path / "in.txt").write_text("물은 water\n", encoding="utf-8")
    args = [str(lookup_bundle), str(tmp_path / "in.txt"), "-o", "-", "--with-text", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "embedrt", "embed", *args], capture_output=True, env={**os.environ, **locale}, check=True
    )
    assert json.loads(done.stdout.decode("utf-8"))["text"] == "물은 water"


def test_a_mistyped_command_gets_a_suggestion(cli):
    assert "Did you mean: embed?" in cli.fails("embd", code=2)
    assert "Did you mean: search" in cli.fails("serch", "x", code=2)
    assert "Commands: export, verify" in cli.fails("xyzzy", code=2)


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        (("export", "a", "--output", "b"), "OUT"), (("export", "a", "--out", "b"), "OUT"),
        (("embed", "b", "--input", "c"), "IN"), (("verify", "--bundle", "b"), "BUNDLE"),
    ],
)  # fmt: skip
def test_an_argument_that_is_given_as_an_option_is_told_its_place(cli, typed, place):
    shown = cli.fails(*typed, code=2)
    assert f"is no option: {place} is known by its place. " in shown
    assert f"embedrt {typed[0]} " in shown.splitlines()[-1]
    assert "Did you mean" in cli.fails("embed", "b", "--outptu", "c", code=2)


def test_help_is_a_command_too(cli):
    assert cli.ok("help").stdout == cli.ok("--help").stdout
    assert cli.ok("help", "embed").stdout == cli.ok("embed", "--help").stdout
    assert "Did you mean: info?" in cli.fails("help", "inf", code=2)


# One thing has one spelling; those in brackets are taken still, and not shown.
SPELLINGS = {
    "--variant": ("info", "embed", "similarity", "search", "rerank", *OVER_FILES),
    "--variants": ("export", "verify", "bench", "eval"),
    "--executor": ("verify", "info", "embed", "similarity", "search", "rerank", *OVER_FILES, "eval"),
    "--executors": ("bench",),
    "--texts": ("verify", "similarity", "bench"),
    "--json": ("verify", "info", "similarity", "search", "rerank", "bench", "cluster", "dedup", "mine", "eval"),
    "--column": ("verify", "embed", "similarity", "search", "rerank", "bench", *OVER_FILES),
    "--encoding": ("verify", "embed", "similarity", "search", "rerank", "bench", *OVER_FILES, "eval"),
    "--plot": ("similarity", "bench", "map"),
    "--prompt": ("embed", "similarity", "search", *OVER_FILES, "eval"),
    "--keep": ("embed", "search", "cluster", "map", "mine"),
    "--quiet": ("export", "verify", "embed", "search", "bench", *OVER_FILES, "eval"),
    "--force": ("export", "embed", *OVER_FILES),
}
FORMERLY = {("bench", "--variant"), ("bench", "--executor"), ("verify", "--variant"), ("similarity", "--file")}


def _options(name: str) -> dict[str, click.Option]:
    command = app.get_command(click.Context(app), name)
    return {spelling: param for param in command.params if isinstance(param, click.Option) for spelling in param.opts}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_thing_has_one_spelling(spelling):
    having = {name for name in COMMANDS if spelling in _options(name) and (name, spelling) not in FORMERLY}
    assert having == set(SPELLINGS[spelling])


@pytest.mark.parametrize(("name", "spelling"), sorted(FORMERLY))
def test_earlier_spellings_are_taken_and_not_shown(cli, name, spelling):
    assert spelling in _options(name)
    assert f"{spelling} " not in cli.ok(name, "--help").stdout.replace(f"{spelling}s ", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_short_option_has_a_long_form_and_lists_say_their_choices(name):
    for option in _options(name).values():
        assert any(spelling.startswith("--") for spelling in option.opts), option.opts
        if option.metavar == "LIST" and not any(char.isdigit() for char in str(option.help)):
            assert " of " in option.help, option.help
