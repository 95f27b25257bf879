"""Parsers of what names a host, a socket or a web page's origin.

Knows no option by name.
"""

from __future__ import annotations

import re

from appliance.loopback import UNIX
from appliance.settings.options import Parser

ANY = "*"
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[?[0-9a-f:.]*:[0-9a-f:.]*\]?")
_ORIGIN = re.compile(
    r"file://|[a-z][a-z0-9+.-]*://(?:[a-z0-9_.*-]+|\[[0-9a-f:.]+\])(?::(?:\d{1,5}|\*))?"
)
_HTTP_URL = re.compile(r"https?://[A-Za-z0-9_.\[\]:-]+(?:/[!-~]*)?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def listen_address() -> Parser:
    """A name or an address, which may be in brackets, as in a URL; or `unix:PATH`, also
    with the slashes of a URL.
    """

    def read(text: str) -> str:
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            if re.fullmatch(r"/[^\x00]*[^\x00/]", path) is None:
                raise ValueError
            return UNIX + re.sub("^/+", "/", path)
        address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if re.fullmatch(r"[A-Za-z0-9_.:%\-]+", address) is None:
            raise ValueError
        return address

    return Parser(read, "a host name, an IP address or unix:/PATH")


def helper_address(default_port: int = 50052) -> Parser:
    """`HOST:PORT` of an RPC helper; a name or an IPv4 address, for llama.cpp speaks no
    IPv6 to helpers.
    """

    def read(text: str) -> str:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?::(\d{1,5}))?", text.strip())
        port = int(match[2] or default_port) if match is not None else 0
        if match is None or not 0 < port < 65536:
            raise ValueError
        return f"{match[1]}:{port}"

    return Parser(read, "a host name or an IPv4 address, and a port: HOST:PORT")


def file_mode() -> Parser:
    """Three octal digits, as `chmod` takes them."""

    def read(text: str) -> str:
        if re.fullmatch(r"0?[0-7]{3}", text) is None:
            raise ValueError
        return text[-3:]

    return Parser(read, "three octal digits such as 660")


def host_name() -> Parser:
    """`llm.example.org`, `*.example.org`, `*`; a scheme, a port and a slash are taken
    off, for the name is often copied out of a URL.
    """

    def read(text: str) -> str:
        name = re.sub(r"^[a-z][a-z0-9+.-]*://", "", text.strip().lower()).rstrip("/")
        if name.count(":") == 1 or "]:" in name:
            name = re.sub(r":\d{1,5}$", "", name)
        if name != ANY and _HOST.fullmatch(name) is None:
            raise ValueError
        return name

    return Parser(read, "a host name, *.DOMAIN for all names below it, or * for any")


def http_url() -> Parser:
    """Without a slash at the end."""

    def read(text: str) -> str:
        url = text.strip().rstrip("/")
        if _HTTP_URL.fullmatch(url) is None:
            raise ValueError
        return url

    return Parser(read, "a URL such as http://127.0.0.1:4318")


def origin() -> Parser:
    """`https://chat.example.org`, as a browser writes it in `Origin`: without a default
    port and a slash at the end; `*` and `null` too.
    """

    def read(text: str) -> str:
        value = text.strip().lower()
        if not value.endswith("://"):
            value = value.rstrip("/")
        if value in (ANY, "null"):
            return value
        if _ORIGIN.fullmatch(value) is None:
            raise ValueError
        return value.removesuffix(_DEFAULT_PORTS.get(value.partition("://")[0], ""))

    return Parser(
        read, "an origin such as https://chat.example.org or http://localhost:*, null, or * for any"
    )
