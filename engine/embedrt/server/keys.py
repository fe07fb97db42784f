"""API keys: any of several, compared in constant time, read again when their file changes. Names stand for them."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from embedrt.errors import FileFormatError
from embedrt.stamps import stamp_of

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64}):\s*(?P<key>\S.*)")


class ApiKeys:
    """The keys that open the API; without any, it is open.

    Raises:
        FileFormatError: the file cannot be read, or holds no key.
    """

    def __init__(self, keys: tuple[str, ...], file: str) -> None:
        self._given = dict(map(_named, keys))
        self._file = Path(file) if file else None
        self._stamp: tuple[int, int] | None = None
        self._read: dict[bytes, str] = {}
        if self._file is not None:
            self._reload(self._file)

    @property
    def wanted(self) -> bool:
        """Whether a key must be shown."""
        return bool(self._given) or self._file is not None

    def accepts(self, authorization: str) -> str | None:
        """The name of the key that the header's value, "Bearer KEY", shows. Every key is compared, equal or not."""
        scheme, _, key = authorization.partition(" ")
        shown = _digest(key.strip())
        found: str | None = None
        for digest, name in (*self._given.items(), *self._read.items()):
            if hmac.compare_digest(shown, digest):
                found = name
        return found if scheme.lower() == "bearer" else None

    def refresh(self, *, always: bool = False) -> bool:
        """Read the file again if it changed, or always; one that cannot be read changes no key, and raises."""
        if self._file is None or (stamp_of(self._file) == self._stamp and not always):
            return False
        self._reload(self._file)
        return True

    def _reload(self, file: Path) -> None:
        stamp = stamp_of(file)
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()  # editors on Windows write a byte order mark
        except OSError as exc:
            raise FileFormatError(f"api_key_file {file} cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise FileFormatError(f"api_key_file {file} is not UTF-8: {exc}; save it as UTF-8") from exc
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise FileFormatError(f"api_key_file {file} holds no key; write NAME:KEY, one per line")
        self._read, self._stamp = dict(map(_named, keys)), stamp


def _named(line: str) -> tuple[bytes, str]:
    """The digest of "NAME:KEY" and the name; a key without one is called by a part of its digest."""
    given = _NAMED.fullmatch(line)
    digest = _digest(given["key"] if given else line)
    return digest, given["name"] if given else f"key-{digest.hex()[:8]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
