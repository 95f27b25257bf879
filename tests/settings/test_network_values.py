"""Host names and origins as people copy them."""

from __future__ import annotations

import pytest

from appliance.settings.network_values import file_mode, host_name, listen_address, origin


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LLM.example.org", "llm.example.org"),
        ("https://llm.example.org:8443/", "llm.example.org"),
        ("llm.example.org:80", "llm.example.org"),
        ("*.example.org", "*.example.org"),
        ("*", "*"),
        ("my_pc", "my_pc"),
        ("::1", "::1"),
        ("[fd00::1]:8080", "[fd00::1]"),
        ("http://10.0.0.1:8080", "10.0.0.1"),
    ],
)
def test_a_host_name_is_taken_out_of_what_was_copied(text: str, name: str) -> None:
    assert host_name().read(text) == name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[::1]", "::1"),
        ("::", "::"),
        ("LOCALHOST.", "LOCALHOST."),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("unix:/run/appliance.sock", "unix:/run/appliance.sock"),
        ("unix:///run/my socket", "unix:/run/my socket"),
    ],
)
def test_an_address_to_listen_on_may_be_in_brackets_or_a_unix_socket(
    text: str, address: str
) -> None:
    assert listen_address().read(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[::1",
        "a b",
        "http://x",
        "x/y",
        "*",
        "unix:",
        "unix:a.sock",
        "unix:/a/",
        "/a.sock",
    ],
)
def test_what_is_no_address_to_listen_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        listen_address().read(text)


@pytest.mark.parametrize(("text", "mode"), [("660", "660"), ("0600", "600")])
def test_a_files_mode_is_three_octal_digits(text: str, mode: str) -> None:
    assert file_mode().read(text) == mode


@pytest.mark.parametrize("text", ["", "66", "888", "1777", "rw-rw----", "0o660"])
def test_what_is_no_files_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        file_mode().read(text)


@pytest.mark.parametrize("text", ["", "a b", "http://x/path", "*.*.org", "x*", "user@host", "é"])
def test_what_is_no_host_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        host_name().read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://chat.example.org", "https://chat.example.org"),
        ("HTTPS://Chat.Example.org:443/", "https://chat.example.org"),
        ("http://x:80", "http://x"),
        ("https://x:80", "https://x:80"),
        ("http://localhost:*", "http://localhost:*"),
        ("https://*.example.org", "https://*.example.org"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("file://", "file://"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_an_origin_is_written_as_a_browser_does(text: str, value: str) -> None:
    assert origin().read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:3000",
        "example.org",
        "http://x/path",
        "http://a@b",
        "http://x:port",
        "https://",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        origin().read(text)
