"""A request's inputs: texts, or token ids of the sort that the server was told to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from embedrt.server.engine import ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.logs import log
from embedrt.server.tiktoken import ENCODING, TiktokenDecoder, load_decoder

PICTURE_URI = "data:image/"
Name = Annotated[str, msgspec.Meta(max_length=1024)]  # of a model or prompt: an error repeats it
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Inputs = str | list[str | TokenId | list[TokenId]]  # a text, texts, token ids, or several of those

_REFUSED = (
    "token ids are refused, because those of OpenAI's tokenizers mean other words to this model; send texts "
    "(langchain-openai: check_embedding_ctx_length=False), or serve with --token-ids {own}"
)
_CHOICES = {
    "openai": f"{ENCODING} if they are those of text-embedding-3, which become texts again, or --token-ids own if they "
    "are the model's own",
    "tei": "own if they are the model's own, as /tokenize gives them",
}


@dataclass
class InputReader:
    """Reads inputs as the setting `token_ids` says: "refuse", "own", or the name of OpenAI's encoding.

    Raises:
        OptionError: the encoding's file is not there.
    """

    token_ids: str
    _decoder: TiktokenDecoder | None = field(init=False, default=None)
    _told: set[str] = field(init=False, default_factory=set)  # models whose first ids were logged

    def __post_init__(self) -> None:
        if self.token_ids == ENCODING:
            self._decoder = load_decoder()

    def openai(self, inputs: Inputs, engine: ModelEngine, prompt: str) -> Sequence[str | list[int]]:
        """What the field `input` holds, sorts not mixed; ids are OpenAI's or the model's own."""
        rows = split(inputs, "input", mixed=False)
        if not isinstance(rows[0], list):
            return rows
        self._admit("openai", "input", engine)
        if self._decoder is not None:
            return self._decoded(self._decoder, rows, isinstance(inputs[0], int))
        check_ids(rows, engine, prompt, "input", single=isinstance(inputs[0], int))
        return rows

    def tei(self, inputs: Inputs, engine: ModelEngine, prompt: str) -> Sequence[str | list[int]]:
        """What the field `inputs` holds: texts, and the model's own ids where those are taken at all."""
        rows = split(inputs, "inputs", mixed=True)
        for i, row in enumerate(rows):
            if _is_uri(row):
                where = "inputs" if isinstance(inputs, str) else f"inputs[{i}]"
                cure = "go to /v1/embeddings" if engine.embedder.takes_pictures else "need a model of pictures"
                raise ServeError(
                    "invalid", f"{where} is a picture, and texts are embedded here; pictures {cure}", param=where
                )
        if any(isinstance(row, list) for row in rows):
            self._admit("tei", "inputs", engine)
            check_ids(rows, engine, prompt, "inputs", single=isinstance(inputs[0], int))
        return rows

    def _admit(self, api: str, name: str, engine: ModelEngine) -> None:
        if self.token_ids == "refuse":
            raise ServeError("token_ids", f"{name}: {_REFUSED.format(own=_CHOICES[api])}", param=name)
        if engine.name not in self._told:
            self._told.add(engine.name)
            log("token ids are taken", model=engine.name, api=api, read_as=self.token_ids if api == "openai" else "own")

    @staticmethod
    def _decoded(decoder: TiktokenDecoder, rows: Sequence[list[int]], single: bool) -> list[str]:
        texts = []
        for i, ids in enumerate(rows):
            where = "input" if single else f"input[{i}]"
            if not ids:
                raise ServeError("empty", f"{where} has no token ids", param=where)
            try:
                texts.append(decoder.text(ids))
            except KeyError as exc:
                raise ServeError(
                    "token_ids", f"{where}: {ENCODING} has no text for the token id {exc.args[0]}", param=where
                ) from exc
        return texts


def pictures_of(inputs: Inputs, modality: str | None, engine: ModelEngine) -> list[str] | None:
    """The field `input` as data URIs of pictures; None where texts are meant.

    Without a `modality`, what looks like one is a picture. Nothing is ever fetched.

    Raises:
        ServeError: the model takes none, or one of several is no data URI.
    """
    rows = [inputs] if isinstance(inputs, str) else list(inputs)
    are = [_is_uri(row) for row in rows]
    if modality == "text" or (modality is None and not any(are)):
        return None
    if not engine.embedder.takes_pictures:
        otherwise = "" if modality else "; with modality: text, the letters of a data URI are embedded"
        raise ServeError("unfit", f"{engine.name} embeds texts only, no pictures{otherwise}", param="modality")
    if not rows:
        raise ServeError("empty", "input must not be empty", param="input")
    for i, is_picture in enumerate(are):
        if not is_picture:
            where = "input" if isinstance(inputs, str) else f"input[{i}]"
            raise ServeError(
                "invalid",
                f"{where} is no picture: give {PICTURE_URI}png;base64, and the file in base64. Addresses are never "
                "fetched, and texts go into a request of their own",
                param=where,
            )
    return [str(row) for row in rows]


def _is_uri(row: object) -> bool:
    return isinstance(row, str) and row.startswith(PICTURE_URI)


def split(inputs: str | Sequence[Any], name: str, *, mixed: bool) -> Sequence[Any]:
    """The inputs one by one, each a text or a list of token ids.

    Args:
        mixed: texts and lists of ids may stand beside each other.

    Raises:
        ServeError: nothing is there, or sorts are mixed that may not be.
    """
    if isinstance(inputs, str):
        return [inputs]
    if not inputs:
        raise ServeError("empty", f"{name} must not be empty", param=name)
    if isinstance(inputs[0], int) and all(isinstance(one, int) for one in inputs):
        return [inputs]
    first = type(inputs[0])
    for i, one in enumerate(inputs):
        if isinstance(one, int) or isinstance(inputs[0], int) or not (mixed or type(one) is first):
            raise ServeError("invalid", f"{name}[{i}] is of another sort than {name}[0]: give texts, token ids, or "
                             "lists of token ids", param=f"{name}[{i}]")  # fmt: skip
    return inputs


def check_ids(rows: Sequence[Any], engine: ModelEngine, prompt: str, name: str, *, single: bool) -> None:
    """Check the lists of ids among the rows.

    Raises:
        ServeError: a list is empty, an id is out of range, or a prompt cannot go before ids.
    """
    if prompt:
        raise ServeError("unfit", f"{name}: token ids cannot take the prompt that goes before texts; send texts, or "
                         "ids with the prompt in them and a model name without prompt", param=name)  # fmt: skip
    size = engine.embedder.bundle.manifest.architecture.vocab_size
    for i, ids in enumerate(rows):
        if isinstance(ids, str):
            continue
        where = name if single else f"{name}[{i}]"
        if not ids:
            raise ServeError("empty", f"{where} has no token ids", param=where)
        if max(ids) >= size:
            raise ServeError("token_ids", f"{where}: token ids go to {size - 1}, not {max(ids)}", param=where)
