"""Every module can be imported where the system is not POSIX (Windows), as far as that can be seen from here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import embedrt
import embedrt_export

PROGRAM = """
import importlib, os, pkgutil, signal, sys

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None  # importing it is an ImportError
for name in ("fork", "getuid", "geteuid", "getgid", "getegid", "statvfs", "sched_getaffinity", "sysconf",
             "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "register_at_fork", "getloadavg", "pread",
             "killpg", "posix_fallocate", "posix_fadvise", "sendfile",
             "mkfifo", "WNOHANG", "nice", "fchmod", "fchown", "chown"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGKILL", "SIGCHLD", "pthread_sigmask",
             "pthread_kill", "setitimer", "alarm", "siginterrupt"):
    if hasattr(signal, name):
        delattr(signal, name)
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.endswith(("__main__", "_native")):  # a program, and no Python module
        importlib.import_module(found.name)
        print(found.name)
"""


def imported(package: str, prepare: str = "") -> list[str]:
    program = prepare + PROGRAM
    done = subprocess.run([sys.executable, "-c", program, package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    return done.stdout.split()


# Other packages, which have ways of their own for Windows, are imported before the names are taken away.
OTHERS = """
import asyncio, concurrent.futures, multiprocessing, subprocess, tempfile, shutil, threading, socket, selectors
import click, rich.console, rich.progress, numpy, tokenizers, onnxruntime
"""
SERVER = """
import starlette.applications, starlette.testclient, uvicorn, uvicorn.protocols.http.httptools_impl
import uvicorn.supervisors, uvloop, msgspec, orjson, prometheus_client
import anyio._backends._asyncio, opentelemetry.sdk.trace
import pyarrow, matplotlib
import chromadb, haystack, lancedb, langchain_core.embeddings, llama_index.core, sklearn.base
"""
EXPORT = "import onnx, torch, transformers, sentence_transformers, safetensors, huggingface_hub\n"


def test_the_engine_imports_everywhere() -> None:
    modules = imported("embedrt", OTHERS + SERVER)
    assert {"embedrt.locks", "embedrt.server.run", "embedrt.commands.outputs"} <= set(modules)
    assert len(modules) > len(list(Path(embedrt.__file__).parent.glob("*.py")))


def test_the_exporter_imports_everywhere() -> None:
    modules = imported("embedrt_export", OTHERS + EXPORT)
    assert {"embedrt_export.staging", "embedrt_export.source"} <= set(modules)
    assert len(modules) >= len(list(Path(embedrt_export.__file__).parent.glob("*.py"))) - 1
