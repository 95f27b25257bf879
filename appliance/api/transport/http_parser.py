"""The parser of HTTP/1: httptools', which here reads on where a client offers to change
the protocol.

Knows no application, and no protocol that could be changed to.

A server may ignore such an offer (RFC 9110, 7.8). httptools takes it for accepted: it
skips the body, and takes what follows for another protocol. Java's HttpClient offers
HTTP/2 (`Upgrade: h2c`) with every first request, a `POST` too.
"""

from __future__ import annotations

from typing import Protocol

import httptools

_CONNECT = b"CONNECT"  # asks for a tunnel, whatever its headers: nothing that could be ignored
_OFFERS = frozenset({b"upgrade", b"http2-settings"})  # headers, and options of `Connection`


class ParsedProtocol(Protocol):
    """What httptools calls, and what is known of a head once it is parsed."""

    url: bytes
    headers: list[tuple[bytes, bytes]]  # names in lower case

    def _should_upgrade(self) -> bool: ...  # uvicorn's: whether we take it

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class SteadyParser:
    """A request that offers an upgrade nobody takes is parsed again without the offer;
    its protocol hears of it once.
    """

    def __init__(self, protocol: ParsedProtocol) -> None:
        self._protocol = protocol
        self._head: bytes | None = None  # of a request that offered, without its offer
        self.on_message_begin = protocol.on_message_begin
        self.on_url = protocol.on_url
        self.on_header = protocol.on_header
        self.on_body = protocol.on_body
        self._parser = self._new_parser()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # as uvicorn has it, so that a first request is answered whatever comes behind it
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def feed_data(self, data: bytes) -> None:
        """Raises what httptools raises; `HttpParserUpgrade` only for an upgrade that is
        taken.
        """
        rest = memoryview(data)
        while True:
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._head is None:
                    raise
                rest = rest[upgrade.args[0] :]
                head, self._head = self._head, None
                self._parser = self._new_parser()
                self._parser.feed_data(head)

    def on_headers_complete(self) -> None:
        is_offer = self._parser.should_upgrade() and self._parser.get_method() != _CONNECT
        if is_offer and not self._protocol._should_upgrade():  # uvicorn's
            self._head = self._head_without_offer()
        else:
            self._protocol.on_headers_complete()

    def on_message_complete(self) -> None:
        if self._head is None:
            self._protocol.on_message_complete()

    def _head_without_offer(self) -> bytes:
        version = self._parser.get_http_version().encode("ascii")
        lines = [self._parser.get_method() + b" " + self._protocol.url + b" HTTP/" + version]
        for name, value in self._protocol.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(each for each in options if each.lower() not in _OFFERS)
            if name not in _OFFERS and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    # what uvicorn asks besides

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        return self._parser.should_upgrade()
