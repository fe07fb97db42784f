"""Files of a folder or of an object store, written whole or not at all."""

from __future__ import annotations

import functools
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from embedrt.datasets.policy import Verdict, is_refusal, verdict
from embedrt.errors import DependencyError, FileFormatError

_MAGIC = "*?["


@dataclass(frozen=True)
class Stat:
    """A file: its path relative to the store's root, and what changes when it does."""

    path: str
    bytes: int
    tag: str


class Store(Protocol):
    """A folder. Paths are relative to it and have slashes."""

    @property
    def root(self) -> str:
        """How the folder is called by people and by other programs."""

    def files(self, under: str = "") -> Iterator[Stat]:
        """All files below a folder of it; none where there is no such folder."""

    def stat(self, path: str) -> Stat | None:
        """The file, or None."""

    def open(self, path: str) -> BinaryIO:
        """The file for reading from any place; FileNotFoundError if it is not there."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, whole or not at all, over what is there."""

    def put_new(self, local: Path, path: str) -> bool:
        """Give a local file this name, whole; False, and nothing done, if the name is taken. The local one may go."""

    def put(self, local: Path, path: str) -> None:
        """Give a local file this name, whole, over what is there. The local one may go."""

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""

    def scratch(self) -> Path:
        """A new name for a local file that `put_new` will take cheaply."""


class LocalStore:
    """A folder of this machine, or one that all machines mount."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()

    @property
    def root(self) -> str:
        """The folder."""
        return str(self._root)

    def files(self, under: str = "") -> Iterator[Stat]:
        """In the order of their names."""
        folder = self._root / under
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)  # names alone: there may be a million
        for name in names:
            path = f"{under}/{name}" if under else name
            try:
                found = (folder / name).stat()
            except FileNotFoundError:  # it went away, or is a link to nowhere
                continue
            if stat.S_ISDIR(found.st_mode):
                yield from self.files(path)
            elif stat.S_ISREG(found.st_mode):
                yield _local_stat(path, found)

    def stat(self, path: str) -> Stat | None:
        """Size and time of the last change."""
        try:
            return _local_stat(path, (self._root / path).stat())
        except FileNotFoundError:
            return None

    def open(self, path: str) -> BinaryIO:
        """Buffered."""
        return (self._root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        """Into another file, synced, renamed."""
        scratch = self.scratch()
        try:
            scratch.write_bytes(data)
            self.put(scratch, path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise

    def put(self, local: Path, path: str) -> None:
        """Synced and renamed."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(local)
        local.replace(target)
        _sync(target.parent)

    def put_new(self, local: Path, path: str) -> bool:
        """Synced and linked: two writers at once cannot both succeed."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(local)
        try:
            os.link(local, target)
        except FileExistsError:
            local.unlink()
            return False
        except OSError:  # file systems without hard links: the second of two writers at once puts its whole file over
            if target.exists():
                local.unlink()
                return False
            local.replace(target)
            return True
        local.unlink()
        _sync(target.parent)
        return True

    def remove(self, path: str) -> None:
        """Unlink it."""
        (self._root / path).unlink(missing_ok=True)

    def scratch(self) -> Path:
        """On the same file system, in a folder that readers of data skip."""
        folder = self._root / "_embedrt" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{uuid.uuid4().hex}"


_TRIES = 4  # of one request; waits of 0.2, 0.4 and 0.8 s bridge a hiccup, longer ones are the shard's to wait for
_OWN_TRIES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}  # their clients wait and try again themselves
F = TypeVar("F", bound=Callable[..., Any])


class AccessError(PermissionError):
    """A store refuses the credentials."""


@contextmanager
def _told_refusals(place: str) -> Iterator[None]:
    """Say whose credentials a store refuses: its own words are "Forbidden"."""
    try:
        yield
    except Exception as exc:
        if isinstance(exc, AccessError) or not is_refusal(exc) or getattr(exc, "errno", None) is not None:
            raise
        told = " ".join(str(exc).split()).rstrip(".")
        raise AccessError(f"{place} refuses access ({told}): its credentials are missing, old or not enough") from exc


def _patient(method: F) -> F:
    """Try a request again that the store or the network refused for the moment."""

    @functools.wraps(method)
    def tried(self: RemoteStore, *args: Any, **kwargs: Any) -> Any:
        with _told_refusals(self.root):
            for tries in range(1, self.tries):
                try:
                    return method(self, *args, **kwargs)
                except Exception as exc:
                    if verdict(exc, 1) is not Verdict.RETRY:
                        raise
                    time.sleep(0.1 * 2**tries)
            return method(self, *args, **kwargs)

    return tried  # type: ignore[return-value]


class RemoteStore:
    """A place that fsspec knows. An object appears whole when its upload ends."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._fs, self._base = _filesystem(self._url)
        self.tries = 1 if self._protocols & _OWN_TRIES else _TRIES  # of each request

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self._url,)

    @property
    def root(self) -> str:
        """The URL."""
        return self._url

    def files(self, under: str = "") -> Iterator[Stat]:
        """In the order of their names."""
        found = self._found(f"{self._base}/{under}".rstrip("/"))
        for name in sorted(found):
            if found[name].get("type") == "file":
                yield self._stat(name, found[name])

    @_patient
    def _found(self, folder: str) -> dict[str, Any]:
        self._fs.invalidate_cache()
        found: dict[str, Any] = self._fs.find(folder, detail=True)
        return found

    @_patient
    def stat(self, path: str) -> Stat | None:
        """Size and etag, or what else the store says of a change."""
        self._fs.invalidate_cache()
        try:
            name = f"{self._base}/{path}"
            return self._stat(name, self._fs.info(name))
        except FileNotFoundError:
            return None

    @_patient
    def open(self, path: str) -> BinaryIO:
        """Read by ranges, as the reader asks."""
        stream: BinaryIO = self._fs.open(f"{self._base}/{path}", "rb")
        return stream

    @_patient
    def write(self, path: str, data: bytes) -> None:
        """One request."""
        self._fs.pipe_file(f"{self._base}/{path}", data)

    @_patient
    def put_new(self, local: Path, path: str) -> bool:
        """By a conditional request where the store has those; elsewhere the second of two writers at once wins."""
        name = f"{self._base}/{path}"
        try:
            if self._protocols & {"s3", "gs", "gcs"}:
                self._fs.put_file(str(local), name, mode="create")
            elif self.stat(path) is not None:
                return False
            else:
                self._fs.put_file(str(local), name)
        except FileExistsError:
            return False
        except OSError as exc:
            if "PreconditionFailed" in repr(exc) or "PreconditionFailed" in repr(exc.__cause__):  # S3's 412
                return False
            raise
        return True

    @_patient
    def put(self, local: Path, path: str) -> None:
        """One upload."""
        self._fs.put_file(str(local), f"{self._base}/{path}")
        local.unlink(missing_ok=True)

    @property
    def _protocols(self) -> set[str]:
        protocol = self._fs.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

    @_patient
    def remove(self, path: str) -> None:
        """Delete the object."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._base}/{path}")

    def scratch(self) -> Path:
        """In this machine's folder for temporary files."""
        return Path(tempfile.gettempdir()) / f"embedrt-{os.getpid()}-{uuid.uuid4().hex}"

    def _stat(self, name: str, info: dict[str, Any]) -> Stat:
        path = name.removeprefix(self._base).lstrip("/")
        size = int(info.get("size") or 0)
        told = [
            info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
        ]
        mark = next((value for value in told if value), "")
        if isinstance(mark, datetime):  # some stores list it as a number, and tell it of one file as a time
            mark = mark.timestamp()
        mark = str(mark).strip('"')
        return Stat(path, size, f"{size}-{mark}")


def is_url(place: str) -> bool:
    """Whether fsspec is asked; "file://" and paths are this machine's."""
    return "://" in place and not place.startswith("file://")


def store_at(place: str | os.PathLike[str]) -> Store:
    """The folder at a path or URL.

    Raises:
        DependencyError: fsspec, or what it needs for this kind of URL, is missing.
    """
    name = os.fspath(place)
    return RemoteStore(name) if is_url(name) else LocalStore(name.removeprefix("file://"))


def split_pattern(place: str) -> tuple[str, str]:
    """A path or URL as the folder before its first wildcard, and the pattern within that ("" if there is none)."""
    parts = place.split("/")
    wild = next((k for k, part in enumerate(parts) if any(char in part for char in _MAGIC)), None)
    if wild is None:
        return place, ""
    return "/".join(parts[:wild]) or ("/" if place.startswith("/") else "."), "/".join(parts[wild:])


@contextmanager
def reading(store: Store, path: str) -> Iterator[BinaryIO]:
    """The file's bytes; FileFormatError if it is not there."""
    try:
        stream = store.open(path)
    except FileNotFoundError as exc:
        raise FileFormatError(f"{store.root}/{path} is not there") from exc
    with stream, _told_refusals(store.root):
        yield stream


def _local_stat(path: str, found: os.stat_result) -> Stat:
    return Stat(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}")


def _sync(path: Path) -> None:
    """Put a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as exc:
        raise DependencyError(f"{url} needs fsspec: pip install fsspec, and s3fs, gcsfs or adlfs") from exc
    try:
        fs, base = fsspec.core.url_to_fs(url)
    except ImportError as exc:
        raise DependencyError(f"{url}: {exc}") from exc
    except ValueError as exc:
        raise FileFormatError(f"{url}: {exc}") from exc
    return fs, str(base).rstrip("/")
