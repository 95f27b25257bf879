"""The certificate that TLS connections are shown, taken up anew when its files change.

Knows no connection. One that is open keeps what it began with; the next one is shown what
is there by then. Files that cannot be used change nothing, and are said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.network.validity import validity_of
from appliance.errors import BadSettings

CHECK_S = 5.0  # between two looks at the files

_log = logging.getLogger(__name__)
_State = tuple[tuple[int, int, int] | None, ...]  # of each file; None: it is not there


class Certificates:
    """`key` None: the key stands in the certificate's file.

    Raises `BadSettings` where they cannot be used.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert, self._key = cert, key
        self._seen = _state_of(cert, key)
        self._current = _loaded(cert, key)
        self.context = _bare_context()  # of the server: it asks for the current one each time
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _of: ssl.SSLContext) -> None:
        """Called for every handshake, also where the client names no host."""
        connection.context = self._current

    def replace(self, cert: Path, key: Path | None) -> None:
        """Shows what these files hold from now on. Raises `BadSettings`, and changes nothing,
        where they cannot be used.
        """
        seen = _state_of(cert, key)  # before: what changes in between is seen the next time
        self._current = _loaded(cert, key)
        self._cert, self._key, self._seen = cert, key, seen

    def refresh(self) -> bool:
        """Takes up files that changed since they were last looked at; whether it did."""
        seen = _state_of(self._cert, self._key)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._current = _loaded(self._cert, self._key)
        except BadSettings as error:
            _log.error("%s The certificate from before is used on.", error.message)
            return False
        _log.info("new TLS connections use the new certificate in %s", self._cert)
        return True

    async def watch(self) -> None:
        """Looks at the files now and then, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self.refresh)


def _state_of(cert: Path, key: Path | None) -> _State:
    return tuple(_state_of_file(path) for path in (cert, key) if path is not None)


def _state_of_file(path: Path) -> tuple[int, int, int] | None:
    """Of what a link points to: tools renew certificates by turning links."""
    try:
        found = path.stat()
    except OSError:
        return None  # said when it is loaded
    return found.st_ino, found.st_mtime_ns, found.st_size


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _loaded(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Raises `BadSettings`."""
    key = key or cert
    with _readable("--tls-cert", cert), _readable("--tls-key", key):
        context = _bare_context()
        try:
            context.load_cert_chain(cert, key, password=_refuse_password)
        except _Encrypted as error:
            raise BadSettings(
                f"--tls-key {key} is encrypted, and nobody is there to type its passphrase. Write "
                "it without one ('openssl pkey'), readable for the server's user alone."
            ) from error
        except ssl.SSLError as error:
            raise BadSettings(_unusable(cert, key, error)) from error
    _warn_of_dates(cert)
    return context


def _warn_of_dates(cert: Path) -> None:
    """Of a certificate that OpenSSL has taken: it does not look at them."""
    try:
        complaint = validity_of(cert).complaint(time.time())
    except (OSError, ValueError) as error:
        _log.debug("the dates of %s cannot be read: %s", cert, error)
        return
    if complaint:
        _log.warning("the certificate in %s (--tls-cert) %s", cert, complaint)


@contextlib.contextmanager
def _readable(option: str, path: Path) -> Iterator[None]:
    """OpenSSL does not say which file it could not read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadSettings(f"{option} {path} cannot be read: {error.strerror}.") from error
    yield


class _Encrypted(Exception):
    pass


def _refuse_password() -> str:
    """Without it OpenSSL would ask on the terminal, and wait."""
    raise _Encrypted


def _unusable(cert: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"The key in {key} (--tls-key) does not belong to the certificate in {cert}."
    return (
        f"The certificate in {cert} (--tls-cert) or the key in {key} (--tls-key) cannot be used: "
        f"{error.reason or error}. Both are PEM files, the certificate first and then what signed "
        "it."
    )
