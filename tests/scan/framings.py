"""Requests whose ends two servers may see in different places: of a proxy and a server
behind it one may take the rest for the next request.

Knows no route but those that it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

# Stands behind most of them, and must never be answered: a response would have its id.
HIDDEN_ID = "hidden-behind"
_HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-Id: %b\r\n\r\n" % (
    HIDDEN_ID.encode()
)
_POST = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return _POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


_CHUNKED = b"Transfer-Encoding: chunked"
_ALL = b"Content-Length: %d" % len(_HIDDEN)

SMUGGLING: Mapping[str, bytes] = {
    "both lengths": _post(_ALL, _CHUNKED, body=b"0\r\n\r\n" + _HIDDEN),
    "both lengths, turned": _post(_CHUNKED, b"Content-Length: 4", body=b"0\r\n\r\n" + _HIDDEN),
    "two lengths": _post(b"Content-Length: 0", _ALL, body=_HIDDEN),
    "two lengths in one": _post(b"Content-Length: 0, %d" % len(_HIDDEN), body=_HIDDEN),
    "length with a sign": _post(b"Content-Length: +%d" % len(_HIDDEN), body=_HIDDEN),
    "negative length": _post(b"Content-Length: -1", body=_HIDDEN),
    "hexadecimal length": _post(b"Content-Length: 0x%x" % len(_HIDDEN), body=_HIDDEN),
    "length with a point": _post(b"Content-Length: %d.0" % len(_HIDDEN), body=_HIDDEN),
    "length with an exponent": _post(b"Content-Length: 1e2", body=_HIDDEN),
    "huge length": _post(b"Content-Length: 99999999999999999999999", body=_HIDDEN),
    "empty length": _post(b"Content-Length:", body=_HIDDEN),
    "space before the colon": _post(b"Content-Length : %d" % len(_HIDDEN), body=_HIDDEN),
    "tab before the colon": _post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n" + _HIDDEN),
    "folded line": _post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + _HIDDEN),
    "folded name": _post(b"X: y\r\n" + b" Content-Length: 4", body=_HIDDEN),
    "not chunked": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + _HIDDEN),
    "chunked twice": _post(_CHUNKED, _CHUNKED, body=b"0\r\n\r\n" + _HIDDEN),
    "chunked in between": _post(
        b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + _HIDDEN
    ),
    "identity": _post(b"Transfer-Encoding: identity", _ALL, body=_HIDDEN),
    "quoted": _post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + _HIDDEN),
    "vertical tab": _post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + _HIDDEN),
    "NUL": _post(b"Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n" + _HIDDEN),
    "underscore": _post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n" + _HIDDEN),
    "bare line feeds": _post(_CHUNKED, body=b"0\n\n" + _HIDDEN).replace(b"\r\n", b"\n"),
    "bare returns": _post(b"X: y\rContent-Length: 0", body=_HIDDEN),
    "no colon": _post(b"Content-Length", body=_HIDDEN),
    "empty name": _post(b": x", body=_HIDDEN),
    "space in a name": _post(b"Content Length: 0", body=_HIDDEN),
    "chunk of a negative size": _post(_CHUNKED, body=b"-1\r\n\r\n" + _HIDDEN),
    "chunk of a huge size": _post(_CHUNKED, body=b"fffffffffffffffff\r\n" + _HIDDEN),
    "chunk with a prefix": _post(_CHUNKED, body=b"0x0\r\n\r\n" + _HIDDEN),
    "chunk with a sign": _post(_CHUNKED, body=b"+0\r\n\r\n" + _HIDDEN),
    "chunk with spaces": _post(_CHUNKED, body=b"0   \r\n\r\n" + _HIDDEN),
    "chunk without an end": _post(_CHUNKED, body=b"1\r\nZ0\r\n\r\n" + _HIDDEN),
    "chunk with a bare line feed": _post(_CHUNKED, body=b"1;a=\n2\r\nZ\r\n0\r\n\r\n" + _HIDDEN),
    "body of a GET": b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n\r\n%b"
    % (_ALL, _HIDDEN),
    "chunks to HTTP/1.0": _post(_CHUNKED, body=b"0\r\n\r\n" + _HIDDEN).replace(b"/1.1", b"/1.0", 1),
    "HTTP/0.9": b"GET /v1/models\r\n\r\n" + _HIDDEN,
    "HTTP/1.2": b"GET /v1/models HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /v1/models HTTP/9.9\r\nHost: a\r\n\r\n" + _HIDDEN,
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "no method": b" / HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "method with a slash": b"GE/T / HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "long method": b"A" * 70_000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "NUL in the target": b"GET /v1/\x00models HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "space in the target": b"GET /v1/ models HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "zeros": bytes(1000),
    "line breaks": b"\r\n" * 2000,
    "noise": bytes(range(256)) * 20,
    "long header": b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "endless header": b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000,
    "ten thousand headers": b"GET /health HTTP/1.1\r\nHost: a\r\n"
    + b"".join(b"A%d: b\r\n" % n for n in range(10_000))
    + b"\r\n",
    "many trailers": _post(_CHUNKED, body=b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"),
}
# Odd, and legal: they are answered, one by one.
LEGAL: Mapping[str, bytes] = {
    "chunk extensions": _post(_CHUNKED, body=b'2;a=b;c="d"\r\n{}\r\n0;e\r\n\r\n'),
    "trailer": _post(_CHUNKED, b"Trailer: X", body=b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"),
    "zeros before a size": _post(_CHUNKED, body=b"0000002\r\n{}\r\n000\r\n\r\n"),
    "HTTP/1.0": b"GET /v1/models HTTP/1.0\r\n\r\n",
    "chunked in capitals": _post(b"TRANSFER-ENCODING: Chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
}
