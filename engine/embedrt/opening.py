"""A bundle by its directory, or by its name on the hub."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from embedrt.bundle import Bundle, read_bundle
from embedrt.progress import Progress
from embedrt.store.names import as_name


def open_bundle(bundle: str | Path, progress: Progress | None = None) -> Bundle:
    """Open the bundle at a directory, or of a name such as "intfloat/multilingual-e5-small" or "OWNER/NAME@REVISION".

    A name's bundle comes from the store of this user (EMBEDRT_HOME, else ~/.cache/embedrt); where it is not there yet,
    from the repository of that name on the hub if that holds a bundle, else out of an export of the model, where the
    extra `export` is installed. Either puts it into the store, once. `~` in a path is the user's folder.

    Args:
        bundle: directory or name. What exists as a path is one, and so is what begins with a folder that exists.
        progress: told of what is fetched or exported; on a terminal, stderr shows it if nobody is told.

    Raises:
        BundleNotFoundError: there is none, and none could be had; the message says how to get one.
        BundleFormatError: the manifest is not valid, or newer than this version reads.
        BundleIntegrityError: a file is missing or has another size.
        ExportError: an export was needed, and failed.
    """
    name = as_name(bundle)
    if name is None:
        return read_bundle(Path(bundle).expanduser())
    from embedrt.store.store import find, obtain

    path = find(name)
    if path is None:
        logging.getLogger("embedrt").info("%s is not in the store: it is fetched, or exported", name)
        path = obtain(name, progress=progress or _shown())
    return read_bundle(path)


def _shown() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    from embedrt.progress import RichProgress

    return RichProgress(Console(stderr=True, highlight=False))
