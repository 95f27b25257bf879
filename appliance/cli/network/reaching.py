"""How commands on this machine reach the server: over TCP, TLS or a Unix socket.

Knows nothing of what is asked. A server with a certificate is known by that very
certificate, whatever name is in it: commands read the file that the server reads.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from appliance.errors import BadSettings
from appliance.loopback import socket_path
from appliance.settings import ServerOptions

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_URL = "--url"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server with some settings is reached from this machine."""

    host: str  # as in --host
    port: int = 0
    tls_cert: Path | None = None  # known by this very certificate
    is_https: bool = False  # known by who has signed its certificate, where `tls_cert` is None
    flags: str = "--host and --port"  # that named it

    @classmethod
    def of(cls, settings: ServerOptions) -> Address:
        return cls(host=settings.host, port=settings.port, tls_cert=settings.tls_cert)

    @classmethod
    def at(cls, url: str, tls_cert: Path | None) -> Address:
        """`http://HOST[:PORT][/v1]`, `https://…`, `HOST:PORT` or `unix:/PATH`.

        Raises `BadSettings` for anything else.
        """
        if socket_path(url) is not None:
            return cls(host=url, flags=_URL)
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            is_https = parts.scheme == "https"
            port = parts.port or (443 if is_https else 80)
        except ValueError as error:
            raise BadSettings(f"--url {url} is no URL: {error}.") from error
        is_plain = parts.path in ("", "/", "/v1", "/v1/") and not parts.query
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
            raise BadSettings(
                f"--url must be http://HOST:PORT, https://HOST or unix:/PATH (got {url!r})."
            )
        return cls(
            host=parts.hostname,
            port=port,
            tls_cert=tls_cert if is_https else None,
            is_https=is_https,
            flags=_URL,
        )

    @property
    def words(self) -> str:
        return self.host if socket_path(self.host) else f"{self.name} port {self.port}"

    @property
    def url(self) -> str:
        """Without `/v1`. Raises `BadSettings` for a Unix socket, which has none."""
        if socket_path(self.host) is not None:
            raise BadSettings(
                f"{self.host} is a Unix socket, which has no URL. Let the server listen on "
                "127.0.0.1 for this."
            )
        scheme = "https" if self.is_https or self.tls_cert is not None else "http"
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{scheme}://{name}:{self.port}"

    @property
    def name(self) -> str:
        return _ANY_ADDRESS.get(self.host, self.host)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Opened by its first request. Raises `BadSettings` where the certificate's file
        cannot be read.
        """
        path = socket_path(self.host)
        if path is not None:
            return _UnixConnection(path, timeout_s)
        tls = self.tls()
        if tls is None:
            return http.client.HTTPConnection(self.name, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.name, self.port, timeout=timeout_s, context=tls)

    def tls(self) -> ssl.SSLContext | None:
        """What it is trusted by; None where it speaks no TLS. Raises `BadSettings` where the
        certificate's file cannot be read.
        """
        if self.tls_cert is not None:
            return _trusting(self.tls_cert)
        return ssl.create_default_context() if self.is_https else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _trusting(cert: Path) -> ssl.SSLContext:
    """The first certificate of the file and nothing else, not even what signed it: that
    signs others too.
    """
    try:
        found = _CERTIFICATE.search(cert.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"--tls-cert {cert} cannot be read: {error}.") from error
    if found is None:
        raise BadSettings(f"--tls-cert {cert} holds no certificate in PEM form.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=found.group())
    return context
