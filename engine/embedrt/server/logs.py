"""Logs as lines of text or JSON. What users send is never in them: no texts, no queries, no prompts.

A thread of their own writes them, so that a pipe that nobody reads holds up nothing; lines are dropped then
and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import sys
import threading
import time
from typing import Any

LOGGER = logging.getLogger("embedrt.server")
_FIELDS = "fields"  # the attribute of a record that holds an event's facts
_WAITING_LINES = 4096
_NOT_PLAIN = re.compile(r'[\s"]')
_LAST_WORDS_S = 1.0  # that the end of the process waits for lines to be written


def setup_logging(log_format: str, level: str) -> None:
    """Send everything that embedrt and uvicorn log to stderr."""
    try:
        handler = LinesHandler(sys.stderr.fileno())
    except (OSError, ValueError):  # another program has put something else there
        handler = LinesHandler(2)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in ("embedrt.server", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name == "embedrt.server" else logging.WARNING)


def log(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write one event with its facts. The record is made here: logging would look for the caller's file and line."""
    if LOGGER.isEnabledFor(level):
        record = logging.LogRecord(LOGGER.name, level, "", 0, event, (), None)
        setattr(record, _FIELDS, fields)
        LOGGER.handle(record)


def dropped_lines() -> int:
    """Lines that were not logged because those before them could not be written."""
    return sum(handler.dropped for handler in LOGGER.handlers if isinstance(handler, LinesHandler))


class LinesHandler(logging.Handler):
    """Writes lines to a file descriptor from a thread of its own; whoever logs never waits.

    Args:
        file: open for as long as the process lives.
        room: lines that may wait; more are dropped.
    """

    def __init__(self, file: int, room: int = _WAITING_LINES) -> None:
        super().__init__()
        self._file = file
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._room = room
        self._taken = self._written = 0  # lines, so far
        self.dropped = 0
        self._told = 0  # of the dropped ones, how many a line told of
        threading.Thread(target=self._write_all, name="embedrt-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written."""
        try:
            if self._lines.qsize() < self._room:
                self._lines.put(self.format(record))
                self._taken += 1  # handlers are called one at a time
            else:
                self.dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait for what is waiting to be written, but not for long."""
        end = time.monotonic() + _LAST_WORDS_S
        while self._written < self._taken and time.monotonic() < end:
            time.sleep(0.005)

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            if self.dropped > self._told:
                lost, self._told = self.dropped - self._told, self.dropped
                record = LOGGER.makeRecord(LOGGER.name, logging.WARNING, "", 0, "log lines were dropped", (), None)
                setattr(record, _FIELDS, {"count": lost})
                line = f"{self.format(record)}\n{line}"
            rest = f"{line}\n".encode("utf-8", "backslashreplace")
            with contextlib.suppress(OSError):  # closed at the other end: nobody is left to tell
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            self._written += 1


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_text(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, _FIELDS, {}).items())
        line = f"{_time_text(record)} {record.levelname:<7} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time_text(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _plain(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if _NOT_PLAIN.search(text) else text
