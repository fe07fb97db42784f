"""Token ids of OpenAI's tokenizer back to text, out of the file that the library tiktoken keeps; nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedrt.errors import OptionError

ENCODING = "cl100k_base"  # of text-embedding-ada-002 and text-embedding-3-*
# tiktoken keeps what it fetches under the sha1 of its address; it checks the sha256, and so do we.
_NAMES = (f"{ENCODING}.tiktoken", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4")
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


class TiktokenDecoder:
    """The bytes that each token id stands for."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = pieces
        self.num_ids = max(pieces) + 1

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids; a character that is cut at an end becomes U+FFFD, as tiktoken does it.

        Raises:
            KeyError: the id, which stands for no text.
        """
        return b"".join([self._pieces[i] for i in ids]).decode("utf-8", "replace")


def find_file(folders: Sequence[Path] | None = None) -> Path:
    """The encoding's file in the first of the folders that has it; by default where tiktoken looks.

    Raises:
        OptionError: it is in none of them.
    """
    places = [folder / name for folder in folders or tiktoken_folders() for name in _NAMES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        folder = places[0].parent
        raise OptionError(
            f"token_ids={ENCODING} needs tiktoken's file, which is not in {folder}; fetch it once: TIKTOKEN_CACHE_DIR="
            f"{folder} python -c \"import tiktoken; tiktoken.get_encoding('{ENCODING}')\""
        )
    return path


def load_decoder(folders: Sequence[Path] | None = None, *, sha256: str = _SHA256) -> TiktokenDecoder:
    """Read the file that `find_file` finds.

    Raises:
        OptionError: there is none, or it is not what it should be.
    """
    path = find_file(folders)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise OptionError(f"{path} cannot be read: {exc.strerror}") from exc
    if hashlib.sha256(data).hexdigest() != sha256:
        raise OptionError(f"{path} is not {ENCODING}: its sha256 is another; delete it and let tiktoken fetch it again")
    return TiktokenDecoder(_parse(data, path))


def tiktoken_folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The folder where tiktoken keeps its files: it is named by these variables, or lies with temporary files."""
    named = environ.get("TIKTOKEN_CACHE_DIR") or environ.get("DATA_GYM_CACHE_DIR")
    return [Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"]


def _parse(data: bytes, path: Path) -> dict[int, bytes]:
    """Lines of "TOKEN RANK", the token in base64."""
    try:
        rows = (line.split() for line in data.splitlines() if line)
        return {int(rank): base64.b64decode(token, validate=True) for token, rank in rows}
    except (ValueError, binascii.Error) as exc:
        raise OptionError(f"{path} cannot be read: {exc}") from exc
