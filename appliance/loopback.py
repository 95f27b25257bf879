"""Which names, addresses and sockets mean the machine itself, however they are written.

Knows no option and no header.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

# `localhost` and all below it (RFC 6761, 6.3), and what /etc/hosts of common systems adds
_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)
_SHORT_IPV4 = re.compile(r"(?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){0,3}")

UNIX = "unix:"  # before the path of a socket, in place of a name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, a name or an address without brackets:
    127.0.0.0/8 (also as `127.1`), ::1, or a name that nobody else may have.
    """
    name = host.lower().removesuffix(".")
    if name in _NAMES or name.endswith(".localhost"):
        return True
    address = address_of(name)
    return address is not None and address.is_loopback


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`, also as `unix:PATH`."""
    return socket_path(host) is not None or is_loopback(host)


def socket_path(host: str) -> Path | None:
    """Of `unix:PATH`; None for a name or an address."""
    return Path(host.removeprefix(UNIX)) if host.startswith(UNIX) else None


def address_of(host: str) -> Address | None:
    """IPv4 in IPv6 (`::ffff:127.0.0.1`) is IPv4; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # as resolvers read it, and what they type into it: `127.1`, `0`, `0x7f000001`
        if _SHORT_IPV4.fullmatch(host) is None:
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
