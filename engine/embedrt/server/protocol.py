"""How bytes of a connection become requests: uvicorn's protocol on httptools, for clients as they come."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from embedrt.server.wire import BoundedProtocol, TooMuchError, Wire

_OFFER = (b"upgrade", b"http2-settings")  # headers, and names in Connection, that offer another protocol


class HttpProtocol(BoundedProtocol):
    """HTTP/1.1 that passes over offers of other protocols, as RFC 9110 (7.8) allows.

    Java's HttpClient, `curl --http2` and Ktor send `Upgrade: h2c` with their requests. The parser takes such a head for
    the end of HTTP on the connection and leaves the body unread. Then the same head without the offer goes through a
    fresh parser, and the body and what follows after it, in whatever pieces they come.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None, *, wire: Wire
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, wire=wire)
        self._offered = False  # the parser is at a head that offers another protocol

    def _parse(self, part: bytes | memoryview) -> None:
        try:
            self._feed(part)
        except httptools.HttpParserError as exc:
            if isinstance(exc.__context__, TooMuchError):  # out of one of the callbacks
                raise exc.__context__ from None
            raise TooMuchError(400, "Invalid HTTP request received.") from None

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if not self._offered:  # CONNECT: what follows is no HTTP
                self.transport.close()
                return
            head = self._head_without_offer()
            self._offered = False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._feed(head + bytes(data[exc.args[0] :]))

    def _head_without_offer(self) -> bytes:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                kept = [part for part in value.split(b",") if part.strip().lower() not in _OFFER]
                value = b",".join(kept)
            if name not in _OFFER and value:
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    def on_headers_complete(self) -> None:
        """The parser has a head."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offered = True
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser has a request, or a head that offers another protocol."""
        if not self._offered:
            super().on_message_complete()
