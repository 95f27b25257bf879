"""Certificates for tests, each signed by an authority of its own, through one between."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """Who signs, and who trusts what it signed."""

    def __init__(self) -> None:
        self._root = trustme.CA()
        self._between = self._root.create_child_ca()

    def write(self, cert: Path, key: Path, name: str = "127.0.0.1") -> None:
        """A new certificate with its chain, and its key."""
        issued = self._between.issue_cert(name)
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._root.configure_trust(context)
        return context
