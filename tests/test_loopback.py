"""Names and addresses of the machine itself."""

from __future__ import annotations

import pytest

from appliance.loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "chat.localhost",
        "a.b.localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
        "127.0.0.1",
        "127.255.1.2",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
    ],
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "localhost.example.org",
        "xlocalhost",
        "localhost..",
        "127.0.0.1.example.org",
        "127.0.0.1 x",
        "128.0.0.1",
        "127.0.0.256",
        "0.0.0.0",
        "::",
        "::2",
        "::ffff:10.0.0.1",
        "192.168.0.1",
        "[::1]",
        "4294967296",
        "0x",
        "127.",
        "127..1",
        "١٢٧.1",
    ],
)
def test_no_name_of_this_machine(host: str) -> None:
    assert not is_loopback(host)
