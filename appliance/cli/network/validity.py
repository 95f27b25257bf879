"""From when and until when a certificate is valid, as its file says.

Knows no connection, no key, and nothing else that a certificate says.

Source: RFC 5280, 4.1 (where the two dates stand) and 4.1.2.5 (how they are written), in DER.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from appliance.durations import in_words

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3  # serial number, algorithm, issuer
_SHARE_LEFT = 0.1  # of its time; whoever renews certificates has done so by then


@dataclass(frozen=True)
class Validity:
    """In seconds of Unix time."""

    from_s: float
    until_s: float

    def complaint(self, now_s: float) -> str:
        """What is wrong with it now, as the end of a sentence; empty where nothing is."""
        if now_s > self.until_s:
            return f"expired on {_day(self.until_s)}: clients refuse it"
        if now_s < self.from_s:
            return f"is not valid before {_day(self.from_s)}: until then clients refuse it"
        left_s = self.until_s - now_s
        if left_s < _SHARE_LEFT * (self.until_s - self.from_s):
            return f"expires in {in_words(left_s)}, on {_day(self.until_s)}"
        return ""

    @property
    def last_day(self) -> str:
        return _day(self.until_s)


def validity_of(cert: Path) -> Validity:
    """Of all the certificates in a PEM file together.

    Raises `OSError`, and `ValueError` for what holds no certificate.
    """
    found = [_read(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(cert.read_text("ascii"))]
    if not found:
        raise ValueError("it holds no certificate in PEM form")
    return Validity(max(each.from_s for each in found), min(each.until_s for each in found))


def _read(der: bytes) -> Validity:
    """Raises `ValueError`."""
    _, certificate, _ = _element(der)
    _, to_be_signed, _ = _element(certificate)
    tag, _, rest = _element(to_be_signed)
    if tag != _VERSION:  # of the first version, which does not say so
        rest = to_be_signed
    for _ in range(_BEFORE_VALIDITY):
        _, _, rest = _element(rest)
    _, dates, _ = _element(rest)
    first, begins, rest = _element(dates)
    second, ends, _ = _element(rest)
    return Validity(_time_s(first, begins), _time_s(second, ends))


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Its tag and content, and what follows it. Raises `ValueError`."""
    if len(der) < 2:
        raise ValueError("it is cut off")
    tag, length, at = der[0], der[1], 2
    if length & 0x80:  # the length itself takes so many bytes
        at += length & 0x7F
        length = int.from_bytes(der[2:at], "big")
    if len(der) < at + length:
        raise ValueError("it is cut off")
    return tag, der[at : at + length], der[at + length :]


def _time_s(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # years of two digits: 50 is 1950
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("its dates are none")
    time = datetime.strptime(text, "%Y%m%d%H%M%SZ")  # noqa: DTZ007  # made UTC's here
    return time.replace(tzinfo=timezone.utc).timestamp()


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%d")
