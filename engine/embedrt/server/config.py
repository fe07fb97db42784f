"""Settings from flags, environment and a TOML file, in that order; what nobody knows is refused."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from embedrt.errors import FileFormatError, OptionError
from embedrt.server.settings import DEFAULTS, NAMES, SECRET, Settings

PREFIX = "EMBEDRT_"
_FIELDS = {entry.name: entry for entry in fields(Settings)}
# Read by other commands, or by this one before the settings are.
_OTHER_VARIABLES = frozenset({"EMBEDRT_CONFIG", "EMBEDRT_DEBUG", "EMBEDRT_HOME"})


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each value is from: "flag", "environment", the file's name, or "default"."""

    settings: Settings
    origins: dict[str, str]


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, *, wants_bundles: bool = True
) -> Loaded:
    """Merge the sources; flags win over the environment, that over the file, that over the defaults.

    Args:
        flags, environ, file: the sources.
        wants_bundles: whether there must be something to serve.

    Raises:
        OptionError: a name is unknown or a value does not fit; the message says where it stands.
        FileFormatError: the file cannot be read.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(NAMES, "default")
    sources = ((_from_file(file), str(file)), (_from_environ(environ), "environment"), (flags, "flag"))
    for given, origin in sources:
        for name, value in given.items():
            values[name] = _check(name, value, origin)
            origins[name] = origin
    settings = Settings(**values)
    if wants_bundles and not settings.bundles:
        raise OptionError("no bundle to serve; name one: embedrt serve BUNDLE")
    _check_together(settings)
    return Loaded(settings, origins)


def to_toml(loaded: Loaded) -> str:
    """The settings as a file that `--config` reads; keys are not shown."""
    lines = []
    for name in NAMES:
        value = getattr(loaded.settings, name)
        comment = f"  # {loaded.origins[name]}"
        if name in SECRET and value:
            lines.append(f"# {name}: {len(value)} not shown{comment}")
            continue
        lines.append(f"{name} = {_toml_value(value)}{comment}")
    return "\n".join(lines) + "\n"


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # editors on Windows write a byte order mark
    except OSError as exc:
        raise FileFormatError(f"{file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise FileFormatError(f"{file} is not UTF-8: {exc}; save it as UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise FileFormatError(f"{file} is not TOML: {exc}") from exc
    found = {name.replace("-", "_"): value for name, value in data.items()}
    for name in found:
        if name not in _FIELDS:
            raise OptionError(f"{file}: unknown setting {name!r}{_nearest(name, NAMES)}")
    return found


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in NAMES}
    found = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable not in known:
            raise OptionError(
                f"environment: unknown setting {variable}{_nearest(variable, known)} (Kubernetes makes such variables "
                "for a service of the name 'embedrt': set enableServiceLinks: false)"
            )
        found[known[variable]] = value
    return found


def _check(name: str, value: Any, origin: str) -> Any:
    kind = str(_FIELDS[name].type)
    said = f"--{name.replace('_', '-')}" if origin == "flag" else f"{origin}: {name}"
    try:
        value = _READERS[kind](value)
    except (TypeError, ValueError):
        raise OptionError(f"{said} must be {_KIND_NAMES[kind]}, not {value!r}") from None
    limits = _FIELDS[name].metadata
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise OptionError(f"{said} must be at least {limits['minimum']:g}, not {value:g}")
    if limits["choices"] and value not in limits["choices"]:
        raise OptionError(f"{said} must be one of {', '.join(limits['choices'])}, not {value!r}")
    return value


def _check_together(settings: Settings) -> None:
    if bool(settings.ssl_certfile) != bool(settings.ssl_keyfile):
        raise OptionError("ssl_certfile and ssl_keyfile go together")
    if settings.long == "windows" and not settings.truncate:
        raise OptionError("truncate=false refuses long texts and long=windows reads them: choose one")
    for name in ("port", "metrics_port"):
        if getattr(settings, name) > 65535:
            raise OptionError(f"{name} must be at most 65535, not {getattr(settings, name)}")
    if settings.uds and settings.port != DEFAULTS.port:
        raise OptionError(f"uds and port exclude each other: {settings.uds!r} and {settings.port}; leave one out")
    if settings.metrics_port and settings.metrics_port == settings.port and not settings.uds:
        raise OptionError("metrics_port must be another port than port")
    for origin in settings.cors_origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise OptionError(f"cors_origins must be like https://example.com:8443, or * for all, not {origin!r}")
    if settings.otlp_endpoint and not settings.otlp_endpoint.startswith(("http://", "https://")):
        raise OptionError(f"otlp_endpoint must be like http://HOST:4318/v1/traces, not {settings.otlp_endpoint!r}")


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")  # as browsers send it: no path, no slash at the end
_BOOLS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _read_bool(value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if word is True or word is False:
        return bool(word)
    if word not in _BOOLS:
        raise ValueError
    return _BOOLS[word]


def _read_int(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError
    return int(value)


def _read_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _read_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _read_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return tuple(_read_str(part) for part in value)


_READERS = {
    "bool": _read_bool,
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "tuple[str, ...]": _read_list,
}
_KIND_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "tuple[str, ...]": "a list of texts",
}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(json.dumps(part, ensure_ascii=False) for part in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
