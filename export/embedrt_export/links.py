"""Directories of links, for libraries that load a model from one directory and from nothing else."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def link(source: Path, target: Path, wanted: Callable[[Path], bool]) -> None:
    """Make the directory `target` with links to those files of `source` and below that are wanted."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            link(path, target / path.name, wanted)
        elif wanted(path) and not (target / path.name).exists():
            (target / path.name).symlink_to(path.resolve())


@contextlib.contextmanager
def joined(pipeline: Path, encoder: Path, folder: Path) -> Iterator[Path]:
    """The pipeline around an adapter with the files of its base's encoder in `folder`, where the adapter's would be."""
    with tempfile.TemporaryDirectory(prefix="embedrt-") as made:
        root = Path(made) / "model"
        link(pipeline, root, lambda file: not file.name.startswith("adapter_"))
        for path in (path for path in encoder.iterdir() if path.is_file()):
            target = root / folder.relative_to(pipeline) / path.name
            if not target.exists() and path.name != "modules.json":
                target.symlink_to(path.resolve())
        yield root
