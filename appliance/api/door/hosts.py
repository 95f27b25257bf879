"""The host names under which this server is addressed.

Knows no socket.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.loopback import address_of, is_loopback

ANY = "*"


class HostNames:
    """Loopback names, the addresses that stand for all, and those that somebody
    allowed: names, `*.example.org` for all below one, or `*`. None: nobody is asked for
    a name.
    """

    def __init__(self, allowed: Collection[str] | None = ()) -> None:
        self.replace(allowed)

    def replace(self, allowed: Collection[str] | None) -> None:
        """These are allowed from now on."""
        self.are_checked = allowed is not None
        allowed = allowed or ()
        self._takes_any = ANY in allowed
        self._names = frozenset(_plain(host) for host in allowed if not host.startswith("*."))
        self._endings = tuple(_plain(host[1:]) for host in allowed if host.startswith("*."))

    def include(self, host: str) -> bool:
        """`host` is the value of a `Host` header, on whatever port."""
        name = name_of(host)
        if self._takes_any or name in self._names or is_loopback(name):
            return True
        address = address_of(name)
        if address is not None and address.is_unspecified:  # 0.0.0.0 and [::]
            return True
        return bool(self._endings) and name.endswith(self._endings)


def names_to_check(
    host: str, allowed: Collection[str], *, requires_key: bool
) -> tuple[str, ...] | None:
    """For `HostNames`, of a server that listens on `host`. None: the name that a request gives
    for this server is not looked at. Where everybody on this machine may ask, it is, for web
    pages are among them (DNS rebinding).
    """
    is_open = is_loopback(host) and not requires_key
    return (*allowed, host) if is_open or allowed else None


def name_of(host: str) -> str:
    """`Localhost:8080` -> `localhost`, `[::1]:8080` -> `::1`."""
    name, colon, port = host.strip().rpartition(":")
    return _plain(name if colon and (port.isdecimal() or not port) else host.strip())


def _plain(name: str) -> str:
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return name.lower().removesuffix(".")
