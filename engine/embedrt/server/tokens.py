"""text-embeddings-inference's /tokenize and /decode, under the limits of /embed: worked on and written in slices."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.errors import EmbedrtError
from embedrt.server.answers import between, respond, to_json
from embedrt.server.call import call_of, while_wanted
from embedrt.server.engine import ModelEngine
from embedrt.server.errors import ServeError, translate
from embedrt.server.inputs import Name, TokenId, check_ids, split
from embedrt.server.service import Service, resolve
from embedrt.server.sizes import Size
from embedrt.text_checks import check_text
from embedrt.tokenization import TextTokenizer, TokenPiece

_TOKENIZED_CHARACTERS = 262_144
_SLICE_CHARACTERS = 8192  # a character may be a token, of which each takes about 400 bytes until it is written
_SLICE_IDS = 16_384
_BYTES_PER_ID = 150  # that decoding takes meanwhile: the id, its piece of text, and its part of the answer


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /tokenize."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: Name | None = None
    model: Name | None = None


class DecodeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Token ids of one text or of several."""

    ids: list[TokenId | list[TokenId]]
    skip_special_tokens: bool = True
    model: Name | None = None


@dataclass(frozen=True)
class Written:
    """A slice of an answer: JSON without the outermost brackets, and how many tokens are in it."""

    content: bytes
    num_tokens: int


class TokensApi:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/decode", self.decode, methods=["POST"]),
        ]

    async def tokenize(self, request: Request) -> Response:
        """The tokens of each text, not cut."""
        body = await self._service.read(request, TokenizeRequest)
        engine, kind = self._service.models.find(body.model)
        prompt = resolve(engine, kind=kind, prompt_name=body.prompt_name).prompt
        given = split(body.inputs, "inputs", mixed=False)
        self._service.check_count(given)
        characters = sum(map(len, given)) + len(prompt) * len(given)
        if characters > _TOKENIZED_CHARACTERS:
            raise ServeError("too_large", f"/tokenize takes {_TOKENIZED_CHARACTERS} characters at once, prompts "
                             f"included, these are {characters}; split them", param="inputs")  # fmt: skip
        try:
            texts = [prompt + check_text(text, i) for i, text in enumerate(given)]
        except EmbedrtError as exc:
            raise translate(exc) from exc
        call_of(request).num_characters += characters
        return await self._answer(
            request, engine, len(texts), written_tokens(engine.embedder.tokenizer, texts, body.add_special_tokens)
        )

    async def decode(self, request: Request) -> Response:
        """The text of token ids."""
        service = self._service
        body = await service.read(request, DecodeRequest)
        engine, _ = service.models.find(body.model)

        def checked() -> Sequence[list[int]]:
            rows = split(body.ids, "ids", mixed=False)
            service.check_count(rows)
            check_ids(rows, engine, "", "ids", single=isinstance(body.ids[0], int))
            return rows

        rows = await service.sized(request, checked)
        num_ids = sum(map(len, rows))
        service.admit(request, Size(num_ids, num_ids * _BYTES_PER_ID, 0))
        return await self._answer(
            request, engine, len(rows), written_texts(engine.embedder.tokenizer, rows, body.skip_special_tokens)
        )

    async def _answer(
        self, request: Request, engine: ModelEngine, num_texts: int, slices: Iterator[Callable[[], Written]]
    ) -> Response:
        """All slices, made off the loop one by one; of no use once the request's time is over or its client gone."""
        service, call = self._service, call_of(request)
        found: list[bytes] = []
        began = time.monotonic()

        async def made() -> int:
            num_tokens = answer = 0
            for work in slices:
                written = await service.off_loop(request, work)
                found.append(written.content)
                num_tokens += written.num_tokens
                answer += len(written.content)
                service.admit(request, Size(num_tokens, len(written.content), answer))
            return num_tokens

        num_tokens = await while_wanted(request, service.deadline(request), made())
        call.note_tokens(engine, num_texts, num_tokens, time.monotonic() - began)
        return await respond(request, between(b"[", _each(found), b"]"))


async def _each(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def written_tokens(tokenizer: TextTokenizer, texts: Sequence[str], special: bool) -> Iterator[Callable[[], Written]]:
    """What writes the tokens of the texts, as TEI gives them, slice by slice."""
    before, after = tokenizer.special_pieces() if special else ([], [])

    def several(begin: int, end: int) -> Written:
        rows = [
            [_token(piece, text, 0) for piece in tokenizer.pieces(text, special=special)] for text in texts[begin:end]
        ]
        return Written(b"," * (begin > 0) + to_json(rows)[1:-1], sum(map(len, rows)))

    def part(text: str, span: slice, comma: bytes) -> Written:
        first, last = span.start == 0, span.stop == len(text)
        pieces = [_token(piece, text, span.start) for piece in tokenizer.pieces(text[span], special=False)]
        row = [_token(piece, text, 0) for piece in before] * first + pieces
        row += [_token(piece, text, 0) for piece in after] * last
        head = comma + b"[" if first else b"," * bool(row)
        return Written(head + to_json(row)[1:-1] + b"]" * last, len(row))

    begin = characters = 0
    for k, text in enumerate(texts):
        spans = tokenizer.spans(text, size=_SLICE_CHARACTERS) if len(text) > _SLICE_CHARACTERS else None
        if k > begin and (spans is not None or characters + len(text) > _SLICE_CHARACTERS):
            yield partial(several, begin, k)
            begin, characters = k, 0
        characters += len(text)
        if spans is not None:
            for span in spans:
                yield partial(part, text, span, b"," * (k > 0))
            begin, characters = k + 1, 0
    if begin < len(texts):
        yield partial(several, begin, len(texts))


def written_texts(
    tokenizer: TextTokenizer, rows: Sequence[list[int]], skip_special: bool
) -> Iterator[Callable[[], Written]]:
    """What writes the texts of the lists of ids, slice by slice; a list is never divided."""

    def several(begin: int, end: int) -> Written:
        texts = tokenizer.decode_all(rows[begin:end], skip_special=skip_special)
        return Written(b"," * (begin > 0) + to_json(texts)[1:-1], sum(map(len, rows[begin:end])))

    begin = count = 0
    for k, row in enumerate(rows):
        if k > begin and count + len(row) > _SLICE_IDS:
            yield partial(several, begin, k)
            begin, count = k, 0
        count += len(row)
    yield partial(several, begin, len(rows))


def _token(piece: TokenPiece, text: str, offset: int) -> dict[str, object]:
    """A token as TEI gives it: the slice of the text that it stands for; a special token stands for none.

    `token`, the vocabulary's spelling, is an addition.
    """
    slice_ = None if piece.special else slice(offset + piece.start, offset + piece.stop)
    return {
        "id": piece.id,
        "text": piece.text if slice_ is None else text[slice_],
        "special": piece.special,
        "start": slice_.start if slice_ else None,
        "stop": slice_.stop if slice_ else None,
        "token": piece.text,
    }
