"""API keys: any of several, compared in constant time, read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from embedrt.errors import FileFormatError


class ApiKeys:
    """The keys that open the API; without any, it is open.

    Raises:
        FileFormatError: the file cannot be read, or holds no key.
    """

    def __init__(self, keys: tuple[str, ...], file: str) -> None:
        self._given = tuple(map(_digest, keys))
        self._file = Path(file) if file else None
        self._stamp: tuple[int, int] | None = None
        self._read: tuple[bytes, ...] = ()
        if self._file is not None:
            self._reload(self._file)

    @property
    def wanted(self) -> bool:
        """Whether a key must be shown."""
        return bool(self._given) or self._file is not None

    def accepts(self, authorization: str) -> bool:
        """Whether the header's value, "Bearer KEY", shows one of the keys. Every key is compared, equal or not."""
        scheme, _, key = authorization.partition(" ")
        shown = _digest(key.strip())
        found = False
        for digest in (*self._given, *self._read):
            found |= hmac.compare_digest(shown, digest)
        return found and scheme.lower() == "bearer"

    def refresh(self) -> bool:
        """Read the file again if it changed; a file that cannot be read leaves the keys as they are, and raises."""
        if self._file is None or self._stamp_of(self._file) == self._stamp:
            return False
        self._reload(self._file)
        return True

    def _reload(self, file: Path) -> None:
        stamp = self._stamp_of(file)
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()  # editors on Windows write a byte order mark
        except OSError as exc:
            raise FileFormatError(f"api_key_file {file} cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise FileFormatError(f"api_key_file {file} is not UTF-8: {exc}; save it as UTF-8") from exc
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise FileFormatError(f"api_key_file {file} holds no key; write one per line")
        self._read, self._stamp = tuple(map(_digest, keys)), stamp

    @staticmethod
    def _stamp_of(file: Path) -> tuple[int, int] | None:
        try:
            found = file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
