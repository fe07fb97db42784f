"""Settings from flags, environment and file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from embedrt.cli.app import app
from embedrt.errors import EmbedrtError, FileFormatError, OptionError
from embedrt.server.config import load_settings, to_toml
from embedrt.server.settings import NAMES


def load(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: Any) -> Any:
    """Load with these sources."""
    file = tmp_path / "serve.toml"
    file.write_text(toml)
    return load_settings({"bundles": ("b",), **flags}, environ or {}, file)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path):
    toml = 'port = 1\nhost = "file"\nbatch_tokens = 11\nlog-format = "json"\n'
    environ = {"EMBEDRT_PORT": "2", "EMBEDRT_HOST": "environment", "PATH": "/bin", "EMBEDRT_DEBUG": "1"}
    loaded = load(tmp_path, toml, environ, port="3")
    settings = loaded.settings
    assert (settings.port, settings.host, settings.batch_tokens, settings.log_format) == (3, "environment", 11, "json")
    assert settings.workers == 1
    origins = [loaded.origins[name] for name in ("port", "host", "batch_tokens", "workers")]
    assert origins == ["flag", "environment", str(tmp_path / "serve.toml"), "default"]


def _variables(command: click.Command) -> Iterator[str]:
    """What a command and those below it read of the environment."""
    for parameter in command.params:
        yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from _variables(below)


def test_no_variable_that_other_commands_read_or_the_docs_name_stops_the_server(tmp_path: Path):
    docs = Path(__file__).resolve().parents[2] / "docs"
    named = set(re.findall(r"EMBEDRT_[A-Z_]+", "".join(p.read_text(encoding="utf-8") for p in docs.glob("*.md"))))
    read = {name for name in _variables(app) if name.startswith("EMBEDRT_")}
    assert {"EMBEDRT_PACKED_DIR", "EMBEDRT_THREADS"} <= read
    refused = []
    for name in sorted(name for name in named | read if not name.startswith("EMBEDRT_TEST_")):
        try:
            load_settings({"bundles": ("b",)}, {name: ""}, None)
        except OptionError as exc:
            refused += [name] * ("unknown setting" in str(exc))
    assert refused == []


def test_the_folder_of_packed_weights_is_a_setting_like_the_others(tmp_path: Path):
    environment = os.environ | {"EMBEDRT_PACKED_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "embedrt", "serve", "some-bundle", "--print-config"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert f'packed_dir = "{tmp_path}"  # environment' in shown
    assert load(tmp_path, packed_dir="there").settings.packed_dir == "there"


def test_lists_switches_and_numbers_from_the_environment(tmp_path: Path):
    environ = {
        "EMBEDRT_CORS_ORIGINS": "https://a, https://b",
        "EMBEDRT_TRUNCATE": "off",
        "EMBEDRT_BODY_MB": "0.5",
        "EMBEDRT_BUNDLES": "x=y,z",
    }
    settings = load_settings({}, environ, None).settings
    assert settings.cors_origins == ("https://a", "https://b")
    assert settings.bundles == ("x=y", "z")
    assert (settings.truncate, settings.body_mb) == (False, 0.5)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"toml": "prot = 1"}, "unknown setting 'prot'; did you mean 'port'"),
    ({"environ": {"EMBEDRT_PROT": "1"}}, "unknown setting EMBEDRT_PROT; did you mean 'EMBEDRT_PORT'"),
    ({"environ": {"EMBEDRT_PORT_8080_TCP": "tcp://10.0.0.1:8080"}}, "enableServiceLinks"),
    ({"environ": {"EMBEDRT_PORT": "tcp://10.0.0.1:8080"}}, "environment: port must be a whole number"),
    ({"toml": "port = 1.5"}, "must be a whole number, not 1.5"),
    ({"toml": "port = true"}, "must be a whole number, not True"),
    ({"toml": 'truncate = "maybe"'}, "must be true or false, not 'maybe'"),
    ({"toml": "truncate = 2"}, "must be true or false, not 2"),
    ({"toml": "cors_origins = [1]"}, "must be a list of texts"),
    ({"toml": "grace_s = nan"}, "must be a number"),
    ({"workers": "0"}, "--workers must be at least 1, not 0"),
    ({"variant": "int4"}, "must be one of auto, fp32, fp16, int8, bf16, not 'int4'"),
    ({"port": "70000"}, "at most 65535"),
    ({"ssl_certfile": "x"}, "go together"),
    ({"long": "pieces"}, "long must be one of cut, windows, not 'pieces'"),
    ({"long": "windows", "truncate": False}, "truncate=false refuses long texts and long=windows reads them"),
    ({"uds": "/run/x", "port": "80"}, "uds and port exclude each other"),
    ({"toml": 'cors_origins = ["example.com"]'}, "cors_origins must be like https://example.com:8443"),
    ({"toml": 'cors_origins = ["https://example.com/"]'}, "not 'https://example.com/'"),
    (
        {"toml": 'otlp_endpoint = "localhost:4318"'},
        "otlp_endpoint must be like http://HOST:4318/v1/traces",
    ),
    ({"bundles": ()}, "embedrt serve BUNDLE"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_is_refused_says_where_and_why(tmp_path: Path, given: dict[str, Any], message: str):
    with pytest.raises(OptionError, match=message.replace("(", r"\(").replace(".", r"\.")):
        load(tmp_path, **given)


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(FileFormatError, match="is not TOML"):
        load(tmp_path, "port = ")
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbfport = 7\r\n")
    assert load_settings({"bundles": ("b",)}, {}, tmp_path / "marked.toml").settings.port == 7
    (tmp_path / "wide.toml").write_bytes("port = 7".encode("utf-16"))
    with pytest.raises(FileFormatError, match=r"wide.toml is not UTF-8.*save it as UTF-8"):
        load_settings({}, {}, tmp_path / "wide.toml")
    with pytest.raises(EmbedrtError, match="No such file"):
        load_settings({}, {}, tmp_path / "nowhere.toml")


def test_what_is_printed_reads_back_equal_and_hides_the_keys(tmp_path: Path):
    loaded = load(tmp_path, 'cors_origins = ["https://a"]', truncate=False, host="é", api_keys=("geheim",))
    text = to_toml(loaded)
    assert "geheim" not in text
    assert set(tomllib.loads(text)) == set(NAMES) - {"api_keys"}
    again = load(tmp_path, text, api_keys=("geheim",)).settings
    assert again == loaded.settings


def test_the_command_prints_its_configuration(cli: Any, tmp_path: Path):
    (tmp_path / "s.toml").write_text("port = 99\n")
    shown = cli.ok("serve", "some-bundle", "--config", tmp_path / "s.toml", "--no-truncate", "--print-config").stdout
    assert 'bundles = ["some-bundle"]  # flag' in shown
    assert f"port = 99  # {tmp_path / 's.toml'}" in shown
    assert "truncate = false  # flag" in shown
    assert "unknown setting" in cli.fails("serve", "b", "--config", _with(tmp_path, "x = 1"), code=2)
    assert "makes a bundle" in cli.fails("serve", tmp_path / "nothing")
    assert "No such option" in cli.fails("serve", "b", "--prot", "1", code=2)


def _with(tmp_path: Path, text: str) -> Path:
    (tmp_path / "bad.toml").write_text(text)
    return tmp_path / "bad.toml"
